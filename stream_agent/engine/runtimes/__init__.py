"""Steps in other runtimes, which get the two halves of a step as models."""
