"""Pictures of graphs, rollout windows, influence, update steps, and planned rollouts."""
