"""OnTheFly: a live view into PyTorch training, on unmodified scripts."""

from onthefly.version import __version__

TYPE_CHECKING = False  # the import of typing loads 20 modules
if TYPE_CHECKING:
    from onthefly.errors import OnTheFlyError, Stop
    from onthefly.lightning import attach_lightning
    from onthefly.sessions import session
    from onthefly.trainer import Trainer

_HOME = {
    "OnTheFlyError": "errors",
    "Stop": "errors",
    "Trainer": "trainer",
    "attach_lightning": "lightning",
    "load_ipython_extension": "notebook",
    "session": "sessions",
    "unload_ipython_extension": "notebook",
}
"""Each name's module. The two that IPython calls are no API: ``%load_ext onthefly`` is."""

__all__ = ["OnTheFlyError", "Stop", "Trainer", "__version__", "attach_lightning", "session"]


def __getattr__(name: str) -> object:
    """Fetch what the package offers when it is asked for.

    The shim imports this package in every interpreter below the launcher. Whatever that loaded would be there before
    the script's own import of the same name, and hide a ``random.py`` or ``types.py`` that lies beside the script.
    """
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from onthefly.core.collecting import imported

    return getattr(imported(f"onthefly.{_HOME[name]}"), name)
