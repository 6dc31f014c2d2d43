"""Snapshots of everything live in a training script at a pause point, and putting it back in place."""
