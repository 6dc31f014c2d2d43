"""Rows 23 and 24: a store that cannot be written or read costs the script nothing, and the user is told.

What arrives meanwhile waits, is shown as not saved, and is saved when the reason is gone: each once.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.hub import keeper, store
from onthefly.hub.keeper import Keeper
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.running import running_hub
from tests.lean import TWO_EPOCHS

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.conftest import Home
    from tests.hub.running import Running

ROOT = pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="mounting needs root")
HOLD = """
import duckdb, sys
database = duckdb.connect()
database.execute(f"ATTACH '{sys.argv[1]}' AS store (STORAGE_VERSION 'v1.2.0')")
print("held", flush=True)
sys.stdin.read()
"""
FLIPS = 200 if os.environ.get("ONTHEFLY_FULL") else 8


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Generator[None, None, None]:
    """A small file system there."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def held(path: Path) -> Generator[None, None, None]:
    """Another process holds that store open."""
    path.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            p.kill()


def blocked(agent: Agent, message: Any) -> bool:
    """Whether the hub does not take that message."""
    try:
        agent.say(message)
    except TimeoutError:
        return True
    return False


def session(hub: Running) -> dict[str, Any]:
    """The one session of this hub."""
    return hub.json("sessions/last")


def assert_saved_once(hub: Running, agent: Agent, calls: int) -> None:
    """All calls are committed, acknowledged, and there once."""
    agent.saved(agent.seq)
    assert [row["backward"] for row in hub.json("sessions/last/backwards")] == list(range(calls))
    wait_for("the badge to go", lambda: session(hub)["unsaved_since"] is None)


@pytest.mark.parametrize("reason", ["held", pytest.param("full", marks=ROOT), pytest.param("read-only", marks=ROOT)])
def test_what_cannot_be_saved_waits_and_is_saved_later(tmp_path: Path, reason: str) -> None:
    with contextlib.ExitStack() as stack:
        data, trouble = tmp_path / "data", contextlib.ExitStack()
        if reason != "held":
            stack.enter_context(mounted(data, "8m"))
        if reason == "held":
            trouble.enter_context(held(data / "sessions" / "abcdefgh" / "store.duckdb"))
        hub = stack.enter_context(running_hub(tmp_path))
        stack.enter_context(trouble)
        if reason == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(data)], check=True)
            trouble.callback(subprocess.run, ["mount", "-o", "remount,rw", str(data)], check=True)
        agent = stack.enter_context(Agent(hub.file, hello("abcdefgh")))
        if reason == "full":
            (data / "ballast").write_bytes(bytes(7 << 20))
            trouble.callback((data / "ballast").unlink)
        calls = 0
        while session(hub)["unsaved_since"] is None:
            agent.say(records(calls, 20, 200))
            calls += 20
            wait_for("an outcome", lambda: (s := session(hub))["unsaved_since"] or s["backwards"] == calls)  # noqa: B023
            assert calls < 20_000
        assert session(hub)["unsaved_reason"]
        shown = session(hub)["backwards"]
        for _ in range(3):
            agent.say(records(calls, 20, 200))
            calls += 20
        assert session(hub)["backwards"] == shown < calls, "shown and not saved"
        trouble.close()
        assert_saved_once(hub, agent, calls)


def test_an_agent_that_comes_back_meanwhile_is_not_recorded_twice(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub, held(tmp_path / "data" / "sessions" / "abcdefgh" / "store.duckdb"):
        for _ in range(3):
            with Agent(hub.file, hello("abcdefgh")) as agent:
                for number in range(5):
                    agent.say(records(number, 1, 4))
                wait_for("the badge", lambda: session(hub)["unsaved_since"])
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        for number in range(6):
            agent.say(records(number, 1, 4))
        assert_saved_once(hub, agent, 6)


def test_memory_is_bounded_while_nothing_can_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "MAX_WAITING", 1 << 20)
    with (
        running_hub(tmp_path) as hub,
        held(tmp_path / "data" / "sessions" / "abcdefgh" / "store.duckdb"),
        Agent(hub.file, hello("abcdefgh")) as agent,
    ):
        agent.connection.socket.settimeout(1.0)
        # After a while the hub reads no more: the agent keeps its frames itself.
        assert any(blocked(agent, records(number, 1, 20_000)) for number in range(200))
        assert hub.hub._keeper._bytes < 2 << 20
        assert hub.request()[0] == 200, "pages are served all the same"


@ROOT
def test_a_script_on_a_full_disk(home: Home) -> None:
    with mounted(home.data, "1m"):
        with pytest.raises(OSError, match="No space"):
            (home.data / "ballast").write_bytes(bytes(2 << 20))
        plain = home.python("-c", TWO_EPOCHS)
        ours = home.watched("-c", TWO_EPOCHS)
        assert (ours.code, ours.out) == (0, plain.out)
        assert ours.err.count(b"\n") <= 2
        shown = home.wait_state("ended")
        assert shown["unsaved_since"]
        assert shown["samples"] == 0, "shown and not saved"
        home.stop_hub()


@pytest.mark.parametrize("protected", [True, False])
def test_damaged_stores_are_kept_aside_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    path = tmp_path / "data" / "sessions" / "abcdefgh" / "store.duckdb"
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.say(records(0, 50, 4))
        agent.saved(1)
    good, chance = path.read_bytes(), random.Random(24)
    if not protected:
        monkeypatch.setattr(store, "_damaged", lambda path, error: False)
    for flip in range(FLIPS if protected else 1):
        broken = bytearray(good)
        for _ in range(8):
            broken[chance.randrange(0, 16_000)] ^= 0xFF  # headers and the table of contents
        path.write_bytes(bytes(broken) if flip % 4 else b"SQLite format 3\0" + bytes(chance.randbytes(5000)))
        with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh", pid=1000 + flip)) as agent:
            agent.say(records(100, 1, 4))
            if not protected:
                assert wait_for("the badge", lambda hub=hub: session(hub)["unsaved_since"])
                return
            agent.saved(1)
            now = session(hub)
            assert now["backwards"] == 1
            assert "damaged" in now["notices"][-1]["text"]
        kept = [other for other in path.parent.iterdir() if ".damaged-" in other.name]
        assert kept
        for other in kept:
            other.unlink()


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    newer = tmp_path / "data" / "sessions" / "abcdefgh" / "store-99.duckdb"
    newer.parent.mkdir(parents=True)
    newer.write_bytes(b"of another time")
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.say(records(0, 1, 4))
        now = wait_for("the badge", lambda: (now := session(hub))["unsaved_since"] and now)
        assert "newer version" in now["unsaved_reason"]
    assert newer.read_bytes() == b"of another time"


def test_without_keeping_frames_they_would_be_lost_from_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drops(*given: Any) -> None:
        return

    monkeypatch.setattr(Keeper, "_keep", drops)
    with (
        running_hub(tmp_path) as hub,
        held(tmp_path / "data" / "sessions" / "abcdefgh" / "store.duckdb"),
        Agent(hub.file, hello("abcdefgh")) as agent,
    ):
        agent.say(records(0, 1, 4))
        agent.state("ended")
        wait_for("the state", lambda: session(hub)["state"] == "ended")
        assert session(hub)["unsaved_since"] is None, "nobody would know"
