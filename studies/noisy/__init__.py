"""Rollouts that see images through noise, as published: who is right, and how early."""
