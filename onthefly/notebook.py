"""``%load_ext onthefly``: watches what the cells of a notebook train, and shows the dashboard in it.

The hooks are those of scripts. A notebook differs in what surrounds them: it ends a training by ending a cell, it goes
on after a stop, and all that it shows is saved and shared. So the frame with the dashboard holds no token but a pass
(:mod:`onthefly.hub.passes`); each cell's end sends what waits; a stop ends the cell and its session, no more; and torch
is not imported for a notebook that does without.
"""

from __future__ import annotations

import functools
import html
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from onthefly.errors import Guard, OnTheFlyError, Stop
from onthefly.link.client import Client
from onthefly.link.discovery import find_hub
from onthefly.patching.imports import when_imported
from onthefly.patching.slots import Slot
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

HEIGHT = 600

THEMES = (
    "<style>"
    'body[data-jp-theme-light="true"] .onthefly, .vscode-light .onthefly { color-scheme: light } '
    'body[data-jp-theme-light="false"] .onthefly, .vscode-dark .onthefly { color-scheme: dark }'
    "</style>"
)
"""The page in the frame goes by the frame's scheme, which would be the system's, whatever the notebook's theme is."""

_notebook: Notebook | None = None


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext onthefly``: watch this process, and show the dashboard."""
    global _notebook
    unload_ipython_extension(shell)
    _notebook = Notebook(shell)
    _notebook.begin()


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext onthefly``: end the session, and put back what was there."""
    global _notebook
    if _notebook is not None:
        _notebook.end()
    _notebook = None


class Notebook:
    """What is watched in one shell of IPython's, and what is shown there."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        settings = Settings()
        self._disabled = settings.disabled
        self._guard = Guard("watching this notebook", strict=settings.strict)
        self._after_cell = self._guard.around(self._cell_ended)
        self._slots: list[Slot] = []
        self._undo: list[Callable[[], object]] = []

    def begin(self) -> None:
        """Watch from now on; in a moment the dashboard is there to be looked at."""
        self._shell.register_magic_function(self.show, "line", "onthefly")
        self._undo.append(self._forget_magic)
        failure: OnTheFlyError | None = None
        if not self._disabled:
            self._shell.events.register("post_run_cell", self._cell_ran)
            self._undo.append(lambda: self._shell.events.unregister("post_run_cell", self._cell_ran))
            self._guard.around(self._take_stops)()
            try:
                find_hub(Settings(), start=True)  # before the session looks for one: they would start two
            except OnTheFlyError as error:
                failure = error
            self._undo.append(when_imported("torch", self._guard.around(self._open)))
        self._display(self._dashboard(failure))

    def end(self) -> None:
        """Watch no more."""
        for undo in reversed(self._undo):
            undo()
        for slot in reversed(self._slots):
            slot.restore()
        if "onthefly.sessions" in sys.modules:
            from onthefly import sessions

            sessions.leave_process()

    def show(self, line: str = "") -> None:
        """``%onthefly``: show the dashboard of what this notebook trains."""
        if line.strip():
            from IPython.core.error import UsageError

            raise UsageError("%onthefly takes no arguments; pause, resume and stop are in the dashboard: "
                             "while a cell runs, no other one can")  # fmt: skip
        self._display(self._dashboard())

    def _dashboard(self, failure: OnTheFlyError | None = None) -> Words:
        if self._disabled:
            return Words("onthefly: switched off (ONTHEFLY_DISABLE)")
        session, torch = _session_id(), "torch" in sys.modules
        what = f"session {session}" if session else f"a session opens with {'the next training' if torch else 'torch'}"
        try:
            if failure is not None:
                raise failure
            with Client(Settings(), start=True) as client:
                port, address = client.hub.port, client.frame(os.getpid())
        except OnTheFlyError as error:
            waits = f"; records wait in {Settings().data_dir}" if session else ""
            return Words(f"onthefly: {what} - no dashboard: {error}{waits}")
        return Dashboard(f"onthefly: {what} - dashboard: http://127.0.0.1:{port} (onthefly dashboard)", address, port)

    def _display(self, words: Words) -> None:
        from IPython.display import display

        display(words)

    def _open(self) -> None:
        """Torch is there."""
        from onthefly import sessions

        sessions.watch_process()

    def _cell_ran(self, result: object = None) -> None:
        self._after_cell()

    def _cell_ended(self) -> None:
        """Send what waits. A session that was stopped is over, and the next training opens another one."""
        if "onthefly.sessions" not in sys.modules:
            return  # no torch, no training
        from onthefly import sessions

        session = sessions.current()
        if session.stopped:
            session.close()
        session.flush()
        sessions.await_training()

    def _take_stops(self) -> None:
        """Have a stop said in a line, where IPython would show a traceback and explain how to leave IPython."""
        from IPython.core import interactiveshell

        self._slots += [
            Slot(self._shell, "showtraceback", self._say_stopped),
            Slot(interactiveshell, "warn", _but_stops),
        ]

    def _say_stopped(self, slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def showtraceback(*args: Any, **kwargs: Any) -> Any:
            if not (slot.enabled and _is_stop()):
                return original(*args, **kwargs)
            self._shell._last_traceback = []  # what a kernel answers with; it would be that of an earlier cell
            stopped = _is_stopped()  # and not by a ``raise onthefly.Stop`` of the cell's own
            what = f"session {_session_id()}" if stopped else "the cell"
            self._display(Words(f"onthefly: {what} was stopped" + "; the next training opens another" * stopped))
            return None

        return showtraceback

    def _forget_magic(self) -> None:
        self._shell.magics_manager.magics["line"].pop("onthefly", None)


class Words:
    """One line of ours, in the output of a cell."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return f'<p style="margin:4px 0;font-size:13px;opacity:.8">{html.escape(self._text)}</p>'


class Dashboard(Words):
    """The dashboard in a frame, and below it what to do where the frame stays empty."""

    def __init__(self, text: str, address: str, port: int) -> None:
        """``address`` holds a pass, and so opens the page once."""
        super().__init__(text)
        self._address = address
        self._port = port

    def _repr_html_(self) -> str:
        tunnel = f"ssh -L {self._port}:127.0.0.1:{self._port} {platform.node()}"
        return (
            f'{THEMES}<iframe class="onthefly" src="{html.escape(self._address)}" title="OnTheFly dashboard" '
            f'width="100%" height="{HEIGHT}" '
            'style="border:1px solid rgba(128,128,128,.35);border-radius:8px;box-sizing:border-box"></iframe>'
            '<p style="margin:2px 0 4px;font-size:12px;opacity:.75">'
            "<code>%onthefly</code> shows this again, <code>onthefly dashboard</code> in a tab of its own. If Jupyter "
            "runs on another machine and the frame stays empty, forward the dashboard's port as well "
            f'(<code style="white-space:nowrap">{html.escape(tunnel)}</code>), then run <code>%onthefly</code>.</p>'
        )


def _session_id() -> str:
    if "onthefly.sessions" not in sys.modules:
        return ""
    from onthefly import sessions

    return sessions.current().id


def _is_stopped() -> bool:
    if "onthefly.sessions" not in sys.modules:
        return False
    from onthefly import sessions

    return sessions.current().stopped


def _is_stop() -> bool:
    return isinstance(sys.exc_info()[1], Stop)


def _but_stops(slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
    """IPython's ``warn`` in the place where it takes a SystemExit."""

    @functools.wraps(original)
    def warn(*args: Any, **kwargs: Any) -> Any:
        if slot.enabled and _is_stop():
            return None
        return original(*args, **kwargs)

    return warn
