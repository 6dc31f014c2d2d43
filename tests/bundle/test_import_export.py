"""A session goes out as a bundle and comes in again: what is shown of it is the same, and no torch was needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.bundle import files, folder, gather
from onthefly.cli.main import main
from onthefly.errors import ExitCode
from onthefly.protocol import Checked, Evaluated, HealthResult, Journaled, Logged, Metrics
from tests.bundle.forging import ID, forge, good
from tests.bundle.test_archive import checkpoint
from tests.conftest import FULL, REPOSITORY, wait_for
from tests.hub.agent import Agent, records
from tests.hub.running import Running, running_hub
from tests.hub.test_evaluations import examined, info
from tests.hub.test_journal import entry
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A hub that the command line finds."""
    monkeypatch.setenv("ONTHEFLY_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("ONTHEFLY_DATA_DIR", str(tmp_path / "data"))
    with running_hub(tmp_path, 48020) as running:
        yield running


@pytest.fixture
def agent(hub: Running) -> Iterator[Agent]:
    """A session with something of everything, which runs."""
    with Agent(hub.file) as agent:
        agent.state("running")
        agent.say(records(0, 3, 4, components={"mse": bytes(48)}))
        agent.say(records(3, 2, 4, run="rewind1"))
        agent.say(Metrics(run="baseline", step=bytes(8), epoch=bytes(4), time=bytes(8), values={"lr": bytes(8)}))
        agent.say(Logged(stream="stderr", time=1.0, text="a\u00e9\r\n"))
        agent.say(Journaled(entry=entry(1)))
        target = array("d", [0, 1]).tobytes()
        agent.say(examined(run="baseline", evaluation="test_1", kind="test", target=target, predicted=target))
        agent.say(Evaluated(evaluation=info(label="test_1", kind="test")))
        agent.say(Checked(result=HealthResult(check="memory", verdict="good", says="fine", run="baseline", time=1.0)))
        agent.saved(9)
        tag = json.dumps({"tag": "label:wrong", "samples": [1, 2], "by": "ana"})
        assert hub.request("POST", f"/api/v1/sessions/{ID}/tags", tag)[0] == 200
        yield agent


SHOWN = [
    "runs", "backwards", "samples", "metrics?name=lr", "metrics?name=loss", "metrics?name=loss&points=10", "histogram",
    "dynamics", "journal", "logs", "evaluations", "health", "tags",
]  # fmt: skip
"""Not all metrics: the hub goes on to measure the processor time of one that runs."""


def shown(hub: Running, session: str) -> dict[str, Any]:
    """What clients see of a session, but for its id."""
    return {
        path: json.loads(json.dumps(hub.json(f"sessions/{session}/{path}")).replace(session, "it")) for path in SHOWN
    }


@pytest.mark.usefixtures("agent")
def test_what_comes_in_is_what_went_out(hub: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While it runs, on the same machine: under another id then."""
    session = tmp_path / "data" / "sessions" / ID
    checkpoint(session / "checkpoints", "baseline-1", reason="every", epoch=0, backward=1)
    target = tmp_path / "a.otf"
    assert main(["export", "last", str(target), "--json"]) == ExitCode.DONE
    told = json.loads(capsys.readouterr().out)
    assert (told["session"], told["bytes"], told["left_out"]) == (ID, target.stat().st_size, [])
    assert main(["import", str(target), "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["id"] != ID
    assert (found["state"], found["samples"], found["backwards"], found["logs"]) == ("imported", 20, 5, 1)
    assert f"where it was {ID}" in found["reason"]
    assert [row["name"] for row in found["controls"]["checkpoints"]] == ["baseline-1"]
    assert shown(hub, found["id"]) == shown(hub, ID)
    names = [component for row in hub.json(f"sessions/{found['id']}/samples") for component in row if "." in component]
    assert names[0] == "loss.mse"
    placed = tmp_path / "data" / "sessions" / found["id"] / "checkpoints" / "baseline-1"
    assert folder.verify(placed)["step"] == 1
    assert not list((tmp_path / "data").rglob(".tmp-*"))
    again = tmp_path / "b.otf"
    assert main(["export", found["id"], str(again)]) == ExitCode.DONE
    with zipfile.ZipFile(target) as one, zipfile.ZipFile(again) as two:
        assert one.namelist() == two.namelist()
        assert all(one.read(name) == two.read(name) for name in one.namelist()
                   if name.startswith("checkpoints") or name.endswith("jsonl"))  # fmt: skip


@pytest.mark.usefixtures("agent")
def test_parts_are_chosen(hub: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = tmp_path / "data" / "sessions" / ID
    for number, run in enumerate(("baseline", "baseline", "rewind1")):
        checkpoint(session / "checkpoints", f"{run}-{number}", time=float(number), run=run)
    checkpoint(session / "rank1" / "checkpoints", "baseline-0")
    target = str(tmp_path / "a.otf")

    def chosen(*options: str) -> tuple[list[str], list[str]]:
        assert main(["export", "last", target, *options]) == ExitCode.DONE
        with zipfile.ZipFile(target) as made:
            names = made.namelist()
            assert json.loads(made.read("manifest.json"))["session"] == ID
        places = {name.rpartition("/")[0] for name in names if "checkpoints" in name}
        return sorted(places), [name for name in names if "checkpoints" not in name]

    every = [
        "checkpoints/baseline-0",
        "checkpoints/baseline-1",
        "checkpoints/rewind1-2",
        "rank1/checkpoints/baseline-0",
    ]
    assert chosen()[0] == every
    assert chosen("--checkpoints", "newest")[0] == every[2:]
    assert chosen("--checkpoints", "none")[0] == []
    assert chosen("--checkpoints", "baseline-1", "baseline-0")[0] == [every[0], every[1], every[3]]
    places, others = chosen("--run", "rewind1", "--no-samples", "--no-logs", "--no-script")
    assert places == [every[2]]
    assert others == ["session.json", "runs.json", "environment.json", "journal.jsonl", "tables/backwards.parquet",
                      "tables/metrics.parquet", "manifest.json"]  # fmt: skip
    capsys.readouterr()
    assert main(["export", "last", target, "--checkpoints", "nowhere"]) == ExitCode.REFUSED
    assert "there are: baseline-0" in capsys.readouterr().err
    assert main(["export", "last", str(tmp_path / "a.zip")]) == ExitCode.USAGE
    assert main(["export", "last"]) == ExitCode.USAGE
    assert not list((tmp_path / "data").rglob(".tmp-*"))
    assert hub.json("sessions/last")["state"] == "running"


@pytest.mark.usefixtures("agent")
def test_the_page_gets_one_too_and_sends_one(hub: Running, tmp_path: Path) -> None:
    status, headers, body = hub.request("POST", "/api/v1/sessions/last/export", '{"checkpoints": ["none"]}')
    assert (status, headers["content-type"]) == (200, "application/zip")
    assert headers["content-disposition"] == f'attachment; filename="{ID}.otf"'
    (tmp_path / "a.otf").write_bytes(body)
    wait_for("its removal", lambda: not list((tmp_path / "data").rglob(".tmp-*")))
    assert len(zipfile.ZipFile(tmp_path / "a.otf").namelist()) == 12

    def send(data: bytes, **headers: str | None) -> tuple[int, Any]:
        given: dict[str, str | None] = {"Content_Type": "application/zip", **headers}
        status, _, answer = hub.request("POST", "/api/v1/import", data.decode("latin-1"), **given)
        return status, json.loads(answer)

    status, session = send(body)
    assert (status, session["state"]) == (200, "imported")
    assert shown(hub, session["id"]) == shown(hub, ID)
    assert send(body, Authorization=None)[0] == 401
    assert send(body, Origin="https://evil.example")[0] == 403
    assert send(body, Content_Type="application/octet-stream")[0] == 415
    assert send(body[:-1])[0] == 409
    assert send(b"x" * 2_000_000)[0] == 409
    assert hub.request("POST", "/api/v1/sessions/last/pin", body[:100].decode("latin-1"),
                       Content_Type="application/zip")[0] == 415  # fmt: skip
    trusted = forge(tmp_path / "b.otf", {**good(tmp_path), "trusted/x.pkl": b"x"}).read_bytes()
    status, answer = send(trusted)
    assert (status, answer["error"]["code"], "trusted/x.pkl" in answer["error"]["message"]) == (409, "untrusted", True)
    assert len(hub.json("sessions")["sessions"]) == 2
    assert not list((tmp_path / "data").rglob(".tmp-*"))


@pytest.mark.usefixtures("agent")
def test_a_checkpoint_that_is_dropped_meanwhile(hub: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is opened it is left out, after that it is whole: never half of it."""
    session = tmp_path / "data" / "sessions" / ID
    for name in ("a-1", "a-2", "a-3"):
        checkpoint(session / "checkpoints", name)
    stage = tmp_path / "stage"
    stage.mkdir()
    opened, chosen = folder.manifest, iter(("a-1", "a-2", "a-3"))

    def drop(path: Path) -> dict[str, Any]:
        found = opened(path)
        if path.parent.name == "checkpoints" and looks.count(path.name) == 1 and path.name == "a-2":
            files.remove_folder(path)
        looks.append(path.name)
        return found

    looks: list[str] = []
    monkeypatch.setattr(folder, "manifest", drop)
    written, left_out = gather.pack(tmp_path / "a.otf", stage, session)
    assert list(chosen) == ["a-1", "a-2", "a-3"]
    assert left_out == ["checkpoints/a-2 was dropped meanwhile"]
    assert written.members == 8
    assert hub.json("sessions/last")["state"] == "running"


def test_importing_needs_no_torch(tmp_path: Path) -> None:
    good(tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None\nfrom pathlib import Path\n"
        "from onthefly.hub.importing import import_bundle\n"
        "print(import_bundle(Path('good.otf'), Path('sessions')), 'pickle' in sys.modules and 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(REPOSITORY)})  # fmt: skip
    assert done.stdout.split()[0] == ID, done.stderr


def test_two_imports_at_once_are_two_sessions(tmp_path: Path) -> None:
    from onthefly.hub.importing import import_bundle

    good(tmp_path)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(import_bundle(tmp_path / "good.otf", tmp_path / "sessions")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(found)) == 3
    assert {path.name for path in (tmp_path / "sessions").iterdir()} == set(found)


def test_storage(hub: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Agent(hub.file) as agent:
        agent.state("ended")
        agent.saved(1)
    wait_for("its end", lambda: hub.json("sessions/last")["state"] == "ended")
    good(tmp_path)
    assert main(["import", str(tmp_path / "good.otf")]) == ExitCode.DONE
    imported = capsys.readouterr().out.split()[1].rstrip(":")
    assert main(["pin", ID]) == ExitCode.DONE
    assert main(["ps"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert "pinned" in next(line for line in lines if line.startswith(f"{ID} "))
    assert f"of 10 GiB (ONTHEFLY_DATA_BUDGET) in {tmp_path / 'data' / 'sessions'}" in lines[-1]
    assert main(["prune", "--keep", "0"]) == ExitCode.DONE
    assert {row["id"]: row["kept"] for row in hub.json("storage")["sessions"]} == {ID: "pinned", imported: "imported"}
    assert main(["unpin", ID]) == ExitCode.DONE
    capsys.readouterr()
    assert main(["prune", "--keep", "0", "--older-than", "1h"]) == ExitCode.DONE
    assert main(["prune", "--keep", "0", "--dry-run", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == [ID]
    assert main(["prune", "--keep", "0"]) == ExitCode.DONE
    assert main(["rm", imported, "zzzz"]) == ExitCode.NO_SESSION
    assert hub.json("sessions")["sessions"] == []
    assert list((tmp_path / "data" / "sessions").iterdir()) == []
    assert main(["prune"]) == ExitCode.USAGE


@pytest.mark.usefixtures("agent")
def test_one_that_runs_is_not_removed(hub: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rm", "last"]) == ExitCode.REFUSED
    assert "stop it first" in capsys.readouterr().err
    assert main(["prune", "--keep", "0", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == []
    assert (tmp_path / "data" / "sessions" / ID / "store.duckdb").exists()
    assert hub.json("storage")["sessions"][0]["kept"] == "running"


@FULL
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("agent")
def test_a_gigabyte_is_exported_as_fast_as_it_is_copied_and_hashed(hub: Running, tmp_path: Path) -> None:
    """At most 1.5 times ``cp`` and ``sha256sum`` of the same bytes, in the same run; and the hub answers meanwhile."""
    parent = tmp_path / "data" / "sessions" / ID / "checkpoints"
    for number in range(4):
        header = b'{"x":{"dtype":"U8","shape":[268435456],"data_offsets":[0,268435456]}}'
        body = (os.urandom(1 << 20) for _ in range(256))
        pieces = [len(header).to_bytes(8, "little"), header, *body]
        folder.write(parent, f"baseline-{number}", {"tensors.safetensors": pieces, "state.json": [b"{}"]},
                     {"run": "baseline", "step": number, "epoch": 0, "time": float(number)})  # fmt: skip
    target, ours, theirs, waits = tmp_path / "a.otf", list[float](), list[float](), list[float]()
    for _ in range(3):
        target.unlink(missing_ok=True)
        started = time.monotonic()
        thread = threading.Thread(target=main, args=(["export", ID, str(target)],))
        thread.start()
        while thread.is_alive():
            asked = time.monotonic()
            hub.json("sessions")
            waits.append(time.monotonic() - asked)
            thread.join(0.05)
        ours.append(time.monotonic() - started)
        started = time.monotonic()
        subprocess.run(["cp", str(target), str(tmp_path / "copy")], check=True)
        subprocess.run(["sha256sum", str(tmp_path / "copy")], check=True, capture_output=True)
        theirs.append(time.monotonic() - started)
    note("export", bytes=target.stat().st_size, seconds=min(ours), copied=min(theirs), hub_waited=max(waits))
    assert min(ours) <= 1.5 * min(theirs)
    assert max(waits) < 1.0
