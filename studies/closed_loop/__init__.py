"""Which rollout drives best, by the cost of a pass."""
