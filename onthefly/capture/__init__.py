"""What was seen becomes records: per-sample losses with the index they belong to and a word on how far to trust them."""
