"""Waiting for a module to be imported, without importing anything.

A finder at the head of ``sys.meta_path`` that answers for one name: it lets the other finders find the module, and
has its loader call us right after the module's body. Whoever only asks where the module is, as
``importlib.util.find_spec("torch")`` does, spends nothing. The loader is as it was before the module's body runs, and
the finder leaves once it has run, so that the module cannot tell.
"""

import sys

TYPE_CHECKING = False  # the import of typing loads 20 modules, which the script might shadow by files of its own
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def when_imported(name: str, callback: "Callable[[], None]") -> "Callable[[], None]":
    """Call ``callback()`` once, right after the module ``name`` was imported; at once if it is already there.

    Returns what ends the waiting.
    """
    finder = _Finder(name, callback)
    if name in sys.modules:
        callback()
    else:
        sys.meta_path.insert(0, finder)
    return finder.leave


class _Finder:
    """Answers for one name, until that is imported."""

    def __init__(self, name: str, callback: "Callable[[], None]") -> None:
        self._name = name
        self._callback = callback

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """The finder's protocol."""
        if name != self._name or self not in sys.meta_path:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:  # those before us have been asked
            spec = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    self._prepare(spec.loader)
                return spec
        return None

    def leave(self) -> None:
        """Wait no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def _prepare(self, loader: "Any") -> None:
        """Have that loader say that the module's body has run."""
        real = loader.exec_module

        def exec_module(module: "ModuleType") -> None:
            vars(loader).pop("exec_module", None)
            real(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._callback()

        loader.exec_module = _as_importlib(exec_module)


def _as_importlib(function: "Any") -> "Any":
    """The function, counted as the import system's own, which Python knows by the name of its file.

    Tracebacks leave those frames out, the levels of warnings skip them, and tracers do not report them. Without this a
    torch that cannot be imported would show a line of ours, and a warning in it would blame us.
    """
    function.__code__ = function.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    return function


_as_importlib(_Finder.find_spec)
