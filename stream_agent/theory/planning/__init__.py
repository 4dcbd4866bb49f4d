"""Which rollout to run: forecasts, a search over patterns, and the recommendation."""
