"""The command line against a hub: what it prints, what it writes, and the code that it ends with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import duckdb
import pytest

from onthefly.cli.main import COMMANDS, main
from onthefly.errors import ExitCode
from tests.hub.agent import Agent, hello, records
from tests.hub.running import running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """A hub with one session of 3 x 4 samples, found through the environment as a user's would be."""
    monkeypatch.setenv("ONTHEFLY_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("ONTHEFLY_DATA_DIR", str(tmp_path / "data"))
    with running_hub(tmp_path, 47960) as hub, Agent(hub.file, hello("abcdefgh", name="train.py")) as agent:
        agent.state("running")
        agent.say(records(0, 3, 4))
        agent.saved(2)
        yield agent
        agent.state("ended")


@pytest.mark.usefixtures("session")
def test_ps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps"]) == ExitCode.DONE
    heading, row, _ = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["SESSION", "NAME", "STATE"]
    assert row.split()[:3] == ["abcdefgh", "train.py", "running"]
    assert main(["ps", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)[0]["samples"] == 12


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_tables_into_files(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{form}"
    assert main(["samples", "last", "-o", str(path)]) == ExitCode.DONE
    reader = {"parquet": "read_parquet", "csv": "read_csv", "json": "read_json"}[form]
    found = (
        duckdb.connect().execute(f"SELECT backward, position, loss FROM {reader}('{path}') ORDER BY 1, 2").fetchall()
    )
    assert found == [(call, place, float(place)) for call in range(3) for place in range(4)]


@pytest.mark.usefixtures("session")
def test_dynamics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dynamics", "last", "--order", "loss_max", "--limit", "2"]) == ExitCode.DONE
    heading, *rows, _ = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["sample", "key", "count", "loss_mean"]
    assert [row.split()[:4] for row in rows] == [["3", "-", "3", "3"], ["2", "-", "3", "2"]]
    assert main(["dynamics", "last", "--run", "baseline", "--json"]) == ExitCode.DONE
    assert [row["sample"] for row in json.loads(capsys.readouterr().out)] == [3, 2, 1, 0]
    path = tmp_path / "out.csv"
    assert main(["dynamics", "last", "-o", str(path)]) == ExitCode.DONE
    assert len(path.read_text().splitlines()) == 5
    assert main(["dynamics", "last", "--order", "best"]) == ExitCode.USAGE
    assert "loss_variance" in capsys.readouterr().err


@pytest.mark.usefixtures("session")
def test_tables_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samples", "abc", "--worst", "--limit", "2"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[5] for line in lines[1:3]] == ["3", "3"]
    assert main(["metrics", "last", "--name", "loss", "--json"]) == ExitCode.DONE
    assert [row["value"] for row in json.loads(capsys.readouterr().out)] == [0.0, 1.0, 2.0]


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("samples zzzz", ExitCode.NO_SESSION),
        ("samples last -o out.xls", ExitCode.USAGE),
        ("samples last --phase nap", ExitCode.USAGE),
        ("ctl last jump", ExitCode.USAGE),
        ("--budget train.py", ExitCode.USAGE),
        ("--colour train.py", ExitCode.USAGE),
        ("run", ExitCode.USAGE),
        ("--name", ExitCode.USAGE),
    ],
)
def test_what_goes_wrong_is_told_with_its_code(line: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == code
    assert capsys.readouterr().err.startswith("onthefly: ")


def test_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ONTHEFLY_RUNTIME_DIR", str(tmp_path / "runtime"))
    assert main(["ps"]) == ExitCode.NO_HUB
    assert "no hub is running" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.usefixtures("session")
def test_the_dashboards_address_holds_the_token_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--no-browser"]) == ExitCode.DONE
    assert "token=" not in capsys.readouterr().out
    assert main(["dashboard", "--url"]) == ExitCode.DONE
    assert "/#token=" in capsys.readouterr().out
