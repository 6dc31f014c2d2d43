"""What was seen becomes records: per-sample losses with their index and how far to trust them."""
