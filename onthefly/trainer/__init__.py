"""``Trainer``: a plain training loop, watched by the same hooks as any script. Its parts stand beside it."""

from onthefly.trainer.trainer import Trainer

__all__ = ["Trainer"]
