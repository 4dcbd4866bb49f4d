"""Pictures of graphs, rollout windows, influence, update steps, and of planned rollouts."""
