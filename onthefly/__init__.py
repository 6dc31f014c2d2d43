"""OnTheFly: a live view into PyTorch training, on unmodified scripts."""

from onthefly.errors import OnTheFlyError, Stop
from onthefly.version import __version__

__all__ = ["OnTheFlyError", "Stop", "__version__"]
