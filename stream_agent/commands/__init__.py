"""Command line tools of the theory: tables, plans and pictures of a graph's rollouts."""
