"""``onthefly.Trainer``."""
