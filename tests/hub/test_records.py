"""Records reach the store whole and once, are acknowledged after the commit, and come out as they went in."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import uuid
from array import array
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from onthefly.hub import keeper
from onthefly.link.connection import Connection
from onthefly.link.frames import LENGTH, encode
from onthefly.link.proof import MAGIC, nonce
from onthefly.protocol import Answer, Answered, Command, Denied, Metrics
from tests.hub.agent import Agent, hello, records
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47930) as running:
        yield running


def test_tables_as_the_interfaces_say(hub: Running, tmp_path: Path) -> None:
    with Agent(hub.file) as agent:
        agent.say(records(0, 3, 4))
        agent.saved(agent.seq)
        rows = hub.json("sessions/abcdefgh/samples")
        assert [(row["backward"], row["position"], row["sample"], row["loss"]) for row in rows] == [
            (call, place, place, float(place)) for call in range(3) for place in range(4)
        ]
        assert {(row["phase"], row["loader"], row["certificate"], row["identity"]) for row in rows} == {
            ("train", "loader0", "exact", "index")
        }
        path = tmp_path / "samples.parquet"
        path.write_bytes(hub.request(path="/api/v1/sessions/abcdefgh/samples?format=parquet")[2])
        columns = duckdb.connect().execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
        assert [column[:2] for column in columns] == [
            ("session", "VARCHAR"), ("run", "VARCHAR"), ("rank", "SMALLINT"), ("step", "BIGINT"),
            ("epoch", "INTEGER"), ("backward", "BIGINT"), ("phase", "VARCHAR"), ("loader", "VARCHAR"),
            ("position", "INTEGER"), ("sample", "BIGINT"), ("key", "VARCHAR"), ("loss", "FLOAT"),
            ("valid", "INTEGER"), ("certificate", "VARCHAR"), ("identity", "VARCHAR"),
            ("time", "TIMESTAMP WITH TIME ZONE"), ("confidence", "FLOAT"), ("margin", "FLOAT"),
            ("evaluation", "VARCHAR"), ("target", "DOUBLE"), ("predicted", "DOUBLE"),
        ]  # fmt: skip
        csv = hub.request(path="/api/v1/sessions/abcdefgh/samples?format=csv&limit=2")[2].decode().splitlines()
        assert csv[0].startswith("session,run,rank,step,epoch,backward")
        assert len(csv) == 3
        worst = hub.json("sessions/abcdefgh/samples?order=worst&limit=2")
        assert [row["loss"] for row in worst] == [3.0, 3.0]
        agent.state("ended")


def test_resent_frames_are_taken_once(hub: Running) -> None:
    first = hello(pid=2**22 + 1)
    with Agent(hub.file, first) as agent:
        agent.say(records(0, 2, 2))
        agent.saved(1)
        agent.say(records(0, 2, 2), seq=1)
        agent.say(records(2, 2, 2), seq=2)
        agent.saved(2)
    with Agent(hub.file, first) as again:
        again.say(records(2, 2, 2), seq=2)
        again.say(records(4, 1, 2), seq=3)
        again.saved(3)
        assert [row["backward"] for row in hub.json("sessions/abcdefgh/backwards")] == [0, 1, 2, 3, 4]
        again.state("ended")


def test_what_is_no_number_is_kept(hub: Running) -> None:
    with Agent(hub.file) as agent:
        nan, inf = float("nan"), float("inf")
        agent.say(
            records(0, 3, 1, loss=array("d", [nan, inf, -inf]).tobytes(),
                    sample_loss=array("f", [nan, inf, -inf]).tobytes())
        )  # fmt: skip
        agent.say(Metrics(run="baseline", step=array("q", [0]).tobytes(), epoch=array("i", [0]).tobytes(),
                          time=array("d", [0.0]).tobytes(), values={"lr": array("d", [0.1]).tobytes()}))  # fmt: skip
        agent.saved(2)
        assert [row["loss"] for row in hub.json("sessions/abcdefgh/samples")] == ["nan", "inf", "-inf"]
        series = hub.json("sessions/abcdefgh/metrics?points=10")
        assert series["value"] == ["nan", "inf", "-inf"]
        assert [row["name"] for row in hub.json("sessions/abcdefgh/metrics?name=lr")] == ["lr"]
        agent.state("ended")


def test_a_spike_survives_any_zoom(hub: Running) -> None:
    with Agent(hub.file) as agent:
        losses = [1.0] * 50_000
        losses[31_337] = 99.0
        agent.say(records(0, 50_000, 0, loss=array("d", losses).tobytes()))
        agent.saved(1)
        series = hub.json("sessions/abcdefgh/metrics?points=100")
        assert series["bucketed"]
        assert len(series["step"]) == 100
        assert max(series["high"]) == 99.0
        assert hub.json(f"sessions/abcdefgh/metrics?points=100&after={series['cursor']}")["step"] == []
        agent.state("ended")


BAD: dict[str, Any] = {
    "a column too short": {"step": b"\0" * 7},
    "another length": {"epoch": array("i", [0]).tobytes()},
    "an unknown certificate": {"certificate": bytes([9, 9])},
    "a reason that is not there": {"reason": array("h", [5, 5]).tobytes()},
    "negative counts": {"count": array("i", [-1, -1]).tobytes()},
    "counts that do not add up": {"count": array("i", [3, 3]).tobytes()},
}


@pytest.mark.parametrize("name", BAD)
def test_columns_that_do_not_fit_cost_their_agent_alone(hub: Running, name: str) -> None:
    with Agent(hub.file, hello("zzzzzzzz")) as good, Agent(hub.file) as bad:
        bad.say(records(0, 2, 2, **BAD[name]))
        assert isinstance(bad.wait(Denied), Denied)
        good.say(records(0, 2, 2))
        good.saved(1)
        assert hub.json("sessions/abcdefgh")["backwards"] == 0
        good.state("ended")


def test_strangers_and_noise_on_the_agents_port(hub: Running) -> None:
    def speak(*parts: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", hub.file.agent_port), timeout=15) as stranger:
            try:
                for part in parts:
                    stranger.sendall(part)
                return stranger.recv(64) + stranger.recv(64)
            except OSError:
                return b""

    assert speak(b"GET / HTTP/1.1\r\n" + b"x" * 100) == b""
    answer = speak(MAGIC + nonce(), b"\0" * 32)
    assert len(answer) == 64  # its nonce and proof, and then nothing: ours was wrong
    for noise in (LENGTH.pack(2**31), struct.pack("<I", 3) + b"\xc1\xc1\xc1", encode(1, records(0, 1, 1))):
        connection = Connection(hub.file)
        connection.prove()
        connection.send(noise)
        with pytest.raises(OSError, match=r"closed|reset"):
            [list(connection.receive()) for _ in range(9)]
        connection.close()
    assert hub.json("sessions")["sessions"] == []


def test_commands_are_answered_once(hub: Running) -> None:
    with Agent(hub.file) as agent:
        agent.state("running")
        agent.saved(1)
        identifier = str(uuid.uuid4())
        body = json.dumps({"id": identifier, "name": "pause", "by": "ana"})
        answers: list[Any] = []

        def ask() -> None:
            answers.append(json.loads(hub.request("POST", "/api/v1/sessions/abcdefgh/commands", body)[2]))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        command = agent.wait(Command)
        assert (command.name, command.by, command.id) == ("pause", "ana", identifier)
        agent.say(Answered(answer=Answer(id=identifier, n=command.n, status="applied", step=41)))
        for thread in threads:
            thread.join()
        assert [(answer["status"], answer["step"]) for answer in answers] == [("applied", 41)] * 3
        assert hub.json(f"sessions/abcdefgh/commands/{command.n}")["status"] == "applied"
        for name in ("Pause", "jump", "", "__init__"):
            bad = json.dumps({"id": str(uuid.uuid4()), "name": name})
            answer = json.loads(hub.request("POST", "/api/v1/sessions/abcdefgh/commands", bad)[2])
            assert answer["status"] == "refused"
        for broken in ("", "{", "[]", '{"id": 5}', '{"id":"a","name":"pause","args":[]}', "\xff" * 10):
            assert hub.request("POST", "/api/v1/sessions/abcdefgh/commands", broken)[0] == 400
        agent.state("ended")


def test_a_pending_command_is_refused_when_the_script_ends(hub: Running) -> None:
    with Agent(hub.file) as agent:
        agent.state("running")
        agent.saved(1)
        body = json.dumps({"id": "one", "name": "pause"})
        answer: list[Any] = []
        thread = threading.Thread(
            target=lambda: answer.append(json.loads(hub.request("POST", "/api/v1/sessions/abcdefgh/commands", body)[2]))
        )
        thread.start()
        agent.wait(Command)
        agent.state("ended")
        thread.join()
    assert answer[0]["status"] == "refused"
    assert "ended" in answer[0]["reason"]


def test_bad_filters_are_named(hub: Running) -> None:
    with Agent(hub.file) as agent:
        agent.state("ended")
        agent.saved(1)
        for query in (
            "phase=x",
            "epoch=a",
            "limit=-1",
            "order=best",
            "colour=red",
            "run=a/b",
            "format=xls",
            "rank=1.5",
        ):
            status, _, body = hub.request(path=f"/api/v1/sessions/abcdefgh/samples?{query}")
            assert status == 400, query
            assert json.loads(body)["error"]["message"]
        for path in ("sessions/zz", "sessions/..", "sessions/abcdefgh/commands/9", "sessions/abcdefgh/commands/-1"):
            assert hub.request(path=f"/api/v1/{path}")[0] in (400, 404)


def test_a_session_is_deleted_when_it_has_ended_and_nothing_else_is(hub: Running, tmp_path: Path) -> None:
    sessions = tmp_path / "data" / "sessions"
    with Agent(hub.file, hello("zzzzzzzz")) as other, Agent(hub.file) as agent:
        agent.say(records(0, 2, 2))
        other.say(records(0, 2, 2))
        other.saved(1)
        agent.saved(1)
        agent.state("running")
        agent.saved(2)
        assert hub.request("DELETE", "/api/v1/sessions/abcdefgh")[0] == 409
        agent.state("ended")
        agent.saved(3)
        assert hub.request("DELETE", "/api/v1/sessions/abcdefgh")[0] == 200
        assert not (sessions / "abcdefgh").exists()
        assert (sessions / "zzzzzzzz" / "store.duckdb").exists()
        other.state("ended")


def test_a_new_hub_knows_the_sessions_of_the_old_one(tmp_path: Path) -> None:
    with running_hub(tmp_path, 47940) as first, Agent(first.file) as agent:
        agent.say(records(0, 5, 3))
        agent.state("ended")
        agent.saved(2)
    with running_hub(tmp_path, 47940) as second:
        session = second.json("sessions/last")
        assert (session["state"], session["samples"]) == ("ended", 15)
        assert len(second.json("sessions/last/samples")) == 15


def test_insert_rate() -> None:
    """10 M records a minute is 170 k a second; this leaves room for a machine that is busy."""
    import tempfile
    from pathlib import Path

    from onthefly.hub.store import Source, Store

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.duckdb", "abcdefgh")
        start = time.perf_counter()
        for number in range(5):
            store.write([(Source(0, 1, number + 1), records(1000 * number, 1000, 128))])
        rate = 5 * 128_000 / (time.perf_counter() - start)
        with store.reading() as cursor:
            assert cursor.execute("SELECT count(*) FROM samples").fetchone() == (640_000,)
        store.close()
    assert rate > 170_000, f"{rate:.0f} records/s"


def test_a_state_that_was_acknowledged_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent does not say it again: a hub that is killed now would leave the state before it to the next one."""
    monkeypatch.setattr(keeper, "SAVE_SECONDS", 3600.0)
    with running_hub(tmp_path, 47930) as running, Agent(running.file) as agent:
        for state in ("running", "paused", "running"):
            agent.state(state)
            agent.saved(agent.seq)
            file = json.loads((tmp_path / "data" / "sessions" / "abcdefgh" / "session.json").read_bytes())
            assert file["session"]["state"] == state
        agent.state("ended")
