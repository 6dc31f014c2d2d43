"""What we watch in torch, one file per patched thing; each hands what it saw to a callable that it was given."""
