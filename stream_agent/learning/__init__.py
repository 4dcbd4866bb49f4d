"""Training and evaluation of driving policies."""
