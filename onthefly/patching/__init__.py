"""How we get into a process and out again: import hooks and exact slots. Knows nothing of training."""
