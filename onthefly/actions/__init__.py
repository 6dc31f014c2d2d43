"""What commands do to live objects, on the training thread, at a pause point."""
