"""State of the script's live objects: snapshots, checkpoints, and the way back from them."""
