"""Commands that wait for a script: bounded, answered aloud, and numbered each with a number of its own."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from onthefly.hub import agents, dispatch
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def send(hub: Running, name: str) -> tuple[str, int]:
    """Status and number of the answer to that command."""
    import json

    body = json.dumps({"id": name, "name": "resume", "args": {}, "by": "test"})
    status, _, answer = hub.request("POST", "/api/v1/sessions/last/commands", body)
    assert status == 200, answer
    found = json.loads(answer)
    return found["status"], found["n"]


def test_beyond_a_number_of_waiting_commands_the_answer_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "MAX_WAITING_COMMANDS", 5)
    monkeypatch.setattr(dispatch, "REMEMBERED_ANSWERS", 3)
    monkeypatch.setattr(dispatch, "ANSWER_SECONDS", 0.01)
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.state("running")
        wait_for("the script", lambda: hub.json("sessions/last")["state"] == "running")
        answers = [send(hub, f"command{number}") for number in range(8)]
        assert [status for status, _ in answers] == ["accepted"] * 5 + ["busy"] * 3
        assert len({number for _, number in answers}) == 8
        assert send(hub, "command0") == ("accepted", 0), "one that waits is not forgotten, whatever came after it"
        agent.state("ended")
        wait_for("the refusals", lambda: send(hub, "command0")[0] == "refused")


def test_strangers_on_the_agents_port_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "MAX_UNPROVEN", 8)
    with running_hub(tmp_path) as hub:
        strangers = [socket.create_connection(("127.0.0.1", hub.file.agent_port), timeout=5) for _ in range(30)]
        try:
            wait_for("them to be served", lambda: len(hub.hub._agents._tasks) == 8)
            for stranger in strangers[:4]:
                stranger.close()
            wait_for("room", lambda: len(hub.hub._agents._tasks) < 8)
            with Agent(hub.file, hello("abcdefgh")):
                assert hub.json("hub")["agents"] == 1
        finally:
            for stranger in strangers:
                stranger.close()
