"""Streaming-rollout networks as real-time control agents."""
