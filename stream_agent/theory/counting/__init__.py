"""How many rollouts a graph has, exactly and without enumerating them."""
