"""The agent's link to the hub: a queue that never blocks the training thread, and one daemon thread that empties it.

The thread finds (or starts) the hub, connects, sends frames, takes acknowledgements and commands, and connects again
when the hub went away; it never touches a tensor. The training thread only appends to a deque and, when the thread is
not awake already, rings a bell.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from onthefly.errors import HubUnavailable, report
from onthefly.link.connection import Connection
from onthefly.link.descriptors import Bell, readable
from onthefly.link.discovery import POLL_SECONDS, living_hub, not_started, spawn_hub
from onthefly.link.frames import FrameError
from onthefly.link.outbox import Outbox
from onthefly.protocol import Ack, Denied, Noticed, Welcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from onthefly.errors import Guard
    from onthefly.protocol import AgentMessage, Command, Decision, Hello, HubFile, HubMessage, Propose
    from onthefly.settings import Settings

FIRST_RETRY, LONGEST_RETRY = 0.25, 30.0
"""Seconds between attempts to reach the hub: doubled each time."""

LOOK_SECONDS = 1.0
"""How often the thread looks whether the script has closed its descriptors, where nothing else wakes it."""

GATHER_SECONDS = 0.1
"""How long after :meth:`Link.soon` what has gathered is fetched."""

TOGETHER_SECONDS = 0.002
"""How long the thread waits once it was woken: a block of records and its steps come one after the other, and each time
that it runs, the training thread waits for the interpreter's lock."""

TOGETHER_BYTES = 1 << 18
"""Of frames that are sent at once; one may be larger."""

ERRAND_SECONDS = 2.0
"""How long after the hub's first answer: scripts have imported by then what they need, and start-up is over."""

LAUNCHED_SECONDS, START_SECONDS = 5.0, 10.0
"""How long a hub may take to appear: one that the launcher has started, and one of our own."""


class Link:
    """Carries messages to the hub and commands from it."""

    def __init__(
        self,
        settings: Settings,
        hello: Hello,
        guard: Guard,
        *,
        on_command: Callable[[Command | Propose | Decision], None],
        on_open: Callable[[str], None],
        on_lost: Callable[[HubUnavailable], None],
        on_end: Callable[[], None] = lambda: None,
        gather: Callable[[], Iterable[AgentMessage]],
        errand: Callable[[], None] = lambda: None,
    ) -> None:
        """The callbacks run on the link's thread: the hub wants something; the session is open at this address; no hub.

        ``on_end()``: a connection over which the hub could speak has ended. ``gather()`` gives messages that were
        announced by :meth:`soon`. ``errand()`` is done a while after the hub has answered first, and before the end.
        """
        self._settings = settings
        self._outbox = Outbox(hello, settings.data_dir / "sessions" / hello.session / "spool" /
                              f"{hello.rank}-{hello.pid}.frames")  # fmt: skip
        self._on_command = on_command
        self._on_open = on_open
        self._on_lost = on_lost
        self._on_end = on_end
        self._gather = gather
        self._gather_at = 0.0
        """When to gather; 0: nobody asked for it."""
        self._errand = errand
        self._errand_at = 0.0
        """When it is to be done; 0: no hub has answered yet; infinite: it was done."""
        self._fresh: deque[AgentMessage] = deque()
        self._bell = Bell()
        self._awake = False
        self._connection: Connection | None = None
        self._spawned = False
        self._expected_until = time.monotonic() + (LAUNCHED_SECONDS if settings.target_pid else 0.0)
        self._patient = not settings.target_pid
        """The hub was not started before the script, so the end of a short one waits for it to appear."""
        self._distrusted: HubFile | None = None
        self._welcomed = False
        self._closing = False
        self._drained = threading.Event()
        self._retry_at = 0.0
        self._retry_after = FIRST_RETRY
        self._off = False
        self._attempt = guard.around(self._run)
        guard.disarm = self._give_up
        self._thread = threading.Thread(target=self._live, name="onthefly-link", daemon=True)

    def start(self) -> None:
        """Start the thread, which takes no signal.

        One that the script has blocked, to wait for it in a thread of its own, would come to ours and end the process.
        """
        if not hasattr(signal, "pthread_sigmask"):
            self._thread.start()
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def send(self, message: AgentMessage) -> None:
        """Queue a message; from any thread, never blocks."""
        if not self._off:
            self._fresh.append(message)
            self._wake()

    def soon(self) -> None:
        """Something gathers that is to be sent in a moment; from any thread, never blocks."""
        if not self._gather_at and not self._off:
            self._gather_at = time.monotonic() + GATHER_SECONDS
            self._wake()

    def close(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds until all is committed; what is not goes to the spool."""
        self._closing = True
        self._wake()
        connection = self._connection
        if not self._drained.wait(0.75 * timeout) and connection is not None:
            connection.hang_up()  # a hub that takes nothing holds the thread
        self._thread.join(0.25 * timeout)
        if not self._thread.is_alive():
            self._collect()
            self._outbox.spill()
            if self._outbox.dropped:
                report(f"{self._outbox.dropped} blocks of records are lost: the hub took none, and no disk had room")

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent. No lock is taken, nothing is sent."""
        self._bell.close()
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._bell.ring()

    def _live(self) -> None:
        """The thread: a fault of ours ends one attempt, and the third the whole link (the guard gives it up)."""
        while not self._drained.is_set():
            self._attempt()

    def _give_up(self) -> None:
        self._off = True
        self._fresh.clear()
        self._disconnect()
        self._drained.set()

    def _run(self) -> None:
        if self._connection is not None:  # after a fault: begin anew, the hub tells what it has
            self._disconnect()
        while True:
            self._collect()
            if self._connection is None and time.monotonic() >= self._retry_at:
                self._connect()
            try:
                self._exchange()
            except (OSError, FrameError):
                self._disconnect()
            if self._closing and not self._fresh and (self._outbox.empty() or self._hopeless()):
                self._disconnect()
                self._errand()
                self._drained.set()
                return

    def _collect(self) -> None:
        if self._gather_at and time.monotonic() >= self._gather_at:
            self._gather_at = 0.0
            for message in self._gather():
                self._outbox.add(message)
        while self._fresh:
            self._outbox.add(self._fresh.popleft())
        if self._errand_at and time.monotonic() >= self._errand_at:
            self._errand_at = math.inf
            self._errand()

    def _exchange(self) -> None:
        """Send what may be sent, then wait for the hub, for news of ours, or for the next attempt."""
        if self._connection is not None and self._welcomed:
            for frames in _together(self._outbox.unsent()):
                self._connection.send(frames)
        if self._closing and self._hopeless():
            return
        waited = [self._bell.fileno()]
        deadlines = [time.monotonic() + LOOK_SECONDS]
        if self._gather_at:
            deadlines.append(self._gather_at)
        if self._connection is not None:
            waited.append(self._connection.fileno())
        else:
            deadlines.append(self._retry_at)
        arrived = readable(waited, max(0.0, min(deadlines) - time.monotonic()))
        if not arrived or self._bell.fileno() in arrived:
            if not self._bell.mend():
                self._bell.silence()
            self._awake = False
            if arrived and not self._closing:
                time.sleep(TOGETHER_SECONDS)
        if self._connection is not None and not arrived:
            self._connection.check()
        elif self._connection is not None and self._connection.fileno() in arrived:
            for message in self._connection.receive():
                self._take(message)

    def _take(self, message: HubMessage) -> None:
        if isinstance(message, Ack):
            self._outbox.acknowledged(message.seq)
        elif isinstance(message, Welcome):
            self._welcome(message)
        elif isinstance(message, Denied):
            raise OSError(f"the hub refused this agent: {message.reason}")
        else:
            self._on_command(message)

    def _welcome(self, welcome: Welcome) -> None:
        assert self._connection is not None
        self._outbox.rewind(welcome.saved)
        self._welcomed = True
        self._errand_at = self._errand_at or time.monotonic() + ERRAND_SECONDS
        self._spawned, self._expected_until = False, 0.0
        self._retry_after = FIRST_RETRY
        if self._outbox.dropped:
            text = f"{self._outbox.dropped} blocks of records found no place while the hub was away, and are lost"
            self._outbox.add(Noticed(text=text, remedy="", time=time.time()))
            self._outbox.dropped = 0
        self._on_open(welcome.url)

    def _connect(self) -> None:
        hub: HubFile | None = None
        try:
            hub = self._find()
            if hub is None:
                return  # one is starting: looked for again in a moment
            self._connection = Connection(hub)
            self._connection.prove()
            self._connection.send(self._outbox.hello())
            self._distrusted = None
        except (HubUnavailable, OSError) as error:
            self._disconnect()
            if hub is not None and self._distrusted is None:
                # Its number may be another process's by now: the next attempt starts a hub.
                self._distrusted, self._expected_until = hub, 0.0
                return
            self._on_lost(error if isinstance(error, HubUnavailable) else HubUnavailable(str(error)))

    def _hopeless(self) -> bool:
        """There is no hub, and none is awaited."""
        return self._connection is None and not (self._patient and time.monotonic() < self._expected_until)

    def _find(self) -> HubFile | None:
        """The hub to connect to; None while one is starting. Never waits: the end of the script must not either."""
        hub = living_hub(self._settings)
        if hub is not None and hub != self._distrusted:
            return hub
        now = time.monotonic()
        if now < self._expected_until:
            self._retry_at = now + POLL_SECONDS
            return None
        if self._spawned:
            self._spawned = False
            raise not_started(self._settings)
        if self._closing and not self._patient:
            raise HubUnavailable("no hub is running")
        spawn_hub(self._settings)
        self._spawned = True
        self._expected_until = now + START_SECONDS
        self._retry_at = now + POLL_SECONDS
        return None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        if self._welcomed:
            self._welcomed = False
            self._on_end()
        self._retry_at = time.monotonic() + self._retry_after
        self._retry_after = min(2 * self._retry_after, LONGEST_RETRY)


def _together(frames: Iterable[bytes]) -> Iterator[bytes]:
    """The same frames, several in one piece."""
    gathered: list[bytes] = []
    size = 0
    for frame in frames:
        gathered.append(frame)
        size += len(frame)
        if size >= TOGETHER_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
