"""The published experiments with rollouts and linear recurrences, run anew."""
