"""Waiting for a module to be imported, with the standard library only.

A finder at the head of ``sys.meta_path`` that answers for one name: it lets the other finders find the module, and
wraps its loader so that a callable runs right after the module's body. It takes itself out at the first hit; loader and
spec are put back as they were before the module's body runs, so that the module cannot tell.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def when_imported(name: str, callback: Callable[[], None]) -> None:
    """Call ``callback()`` once, right after the module ``name`` was imported; at once if it is already there."""
    if name in sys.modules:
        callback()
    else:
        sys.meta_path.insert(0, _Finder(name, callback))


class _Finder:
    """Answers for one name, once."""

    def __init__(self, name: str, callback: Callable[[], None]) -> None:
        self._name = name
        self._callback = callback

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The finder's protocol."""
        if name != self._name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            sys.meta_path.insert(0, self)  # not there (yet): the import fails as it would without us
            return None
        spec.loader = _Loader(spec.loader, self)
        return spec

    def loaded(self) -> None:
        """The module's body has run."""
        self._callback()

    def again(self) -> None:
        """The module's body raised: wait for the next attempt."""
        sys.meta_path.insert(0, self)


class _Loader:
    """Stands in for the real loader until the module's body runs; all else is the real one's answer."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real one."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Put back the real loader, let it run the module's body, and say that it did."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        done = False
        try:
            self._loader.exec_module(module)
            done = True
        finally:
            if not done:
                self._finder.again()
        self._finder.loaded()
