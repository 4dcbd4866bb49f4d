"""When streaming wins, in real time."""
