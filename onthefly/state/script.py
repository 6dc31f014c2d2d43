"""Which files are the script's own: neither Python's, nor installed, nor ours."""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PYTHON = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib") if sysconfig.get_path(name)
)
_TRAINER = os.path.join(_OURS, "trainer") + os.sep
_SHIMS = ("sitecustomize", "usercustomize")


@functools.lru_cache(maxsize=4096)
def is_own(file: str) -> bool:
    """Whether that file is of the script. Text that was typed in (``-c``, a notebook) is."""
    if file.startswith("<frozen") or not file:
        return False
    if file.startswith("<"):
        return file in ("<string>", "<stdin>") or file.startswith("<ipython-input")
    path = os.path.abspath(file)
    parts = path.split(os.sep)
    return not (
        "site-packages" in parts or "dist-packages" in parts or os.path.realpath(path).startswith(_PYTHON)
        or path.startswith((_OURS, *_PYTHON))
    )  # fmt: skip


def is_ours(file: str) -> bool:
    """Whether that file is of this package, but for its training loop, which is like that of any other library."""
    return file.startswith(_OURS) and not file.startswith(_TRAINER)


def modules() -> Iterator[tuple[str, dict[str, Any]]]:
    """The script's own modules, by name, with their globals."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in _SHIMS or name == "__mp_main__":
            continue
        file = getattr(module, "__file__", None)
        if name == "__main__" or (isinstance(file, str) and is_own(file)):
            yield name, vars(module)


def log_files() -> Iterator[tuple[str, Any]]:
    """The files that handlers of :mod:`logging` write to, by the names of their loggers."""
    loggers: dict[str, Any] = {"": logging.root, **logging.root.manager.loggerDict}
    for name, logger in loggers.items():
        for number, handler in enumerate(getattr(logger, "handlers", ())):
            stream = getattr(handler, "stream", None)
            if isinstance(stream, io.IOBase):
                yield f"{name}/{number}", stream


def made_by_script(kind: type) -> bool:
    """Whether a class stands in a file of the script."""
    name = getattr(kind, "__module__", "")
    if name == "__main__":
        return True
    module = sys.modules.get(name) if isinstance(name, str) else None
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_own(file)
