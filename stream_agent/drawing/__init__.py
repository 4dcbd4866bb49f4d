"""Pictures of graphs, rollout windows, influence, update steps, planned rollouts, and drives."""
