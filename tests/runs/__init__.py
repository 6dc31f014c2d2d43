"""Forks, comparisons and merges, on scripts that are played."""
