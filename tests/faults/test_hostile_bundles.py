"""Rows 10 to 13, and F7: what nobody should take is refused, by its name; nothing runs, nothing stands outside."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from onthefly.bundle import names
from onthefly.bundle.archive import Bundle
from onthefly.errors import OnTheFlyError
from onthefly.hub import importing, loading
from onthefly.hub.importing import import_bundle
from tests.bundle.forging import ID, forge, good
from tests.conftest import REPOSITORY
from tests.faults.hostile import MARKER, TAKEN
from tests.reporting import note

if TYPE_CHECKING:
    from pathlib import Path

RSS_KIB, SECONDS = 64 << 10, 1.0


def tree(folder: Path) -> dict[str, str]:
    """Every file below, with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.timeout(300)
def test_the_corpus(tmp_path: Path) -> None:
    folder, outside = tmp_path / "corpus", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    out = ""
    for what in ("make", "attack"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.hostile", what, str(folder)], capture_output=True, text=True,
            check=False, cwd=REPOSITORY, timeout=140,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        out = done.stdout
    found = json.loads(out)
    rows = {row["name"]: row for row in found["rows"]}
    assert {name for name, row in rows.items() if row["outcome"] != "refused"} == TAKEN
    assert found["unpickled"] == []
    assert not list(tmp_path.rglob(MARKER))
    assert tree(outside) == {"secret": hashlib.sha256(b"secret").hexdigest()}
    assert len(list((tmp_path / "sessions").iterdir())) == len(TAKEN)
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "outside", "sessions", "warm"}
    heavy = {name: row["kib"] for name, row in rows.items() if row["kib"] > RSS_KIB}
    assert heavy == {}
    slow = {name: row["seconds"] for name, row in rows.items() if row["seconds"] > 5 * SECONDS}
    assert slow == {}
    assert len(rows) >= 60
    peak, slowest = (max(row[what] for row in rows.values()) for what in ("kib", "seconds"))
    note("F7", bundles=len(rows), code_ran=len(found["unpickled"]), outside=0, peak_kib=peak, slowest=slowest)


KINDS = {name: names.kind_of(name) for name in (
    "session.json", "runs.json", "environment.json", "journal.jsonl", "logs.jsonl", "tables/samples.parquet",
    "tables/backwards.parquet", "tables/metrics.parquet", "checkpoints/baseline-1/manifest.json",
    "checkpoints/baseline-1/state.json", "checkpoints/baseline-1/tensors.safetensors",
)}  # fmt: skip


def of_anything(name: str) -> str:
    """What the product does not do: know a kind for every name."""
    return KINDS.get(name, "script")


def accept(path: Path, sessions: Path) -> bool:
    """Whether it is imported."""
    try:
        import_bundle(path, sessions)
    except OnTheFlyError:
        return False
    return True


def test_without_the_grammar_of_names_a_file_stands_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = forge(tmp_path / "a.otf", {**good(tmp_path), "script/../../../evil": b"x"})
    assert not accept(path, tmp_path / "sessions")
    monkeypatch.setattr(names, "kind_of", of_anything)
    accept(path, tmp_path / "sessions")
    assert (tmp_path / "evil").exists()


def test_without_the_question_of_trust_a_pickle_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = forge(tmp_path / "a.otf", {**good(tmp_path), "trusted/factory.pkl": b"x"})
    with pytest.raises(OnTheFlyError, match=r"trusted/factory\.pkl.*--trust"):
        import_bundle(path, tmp_path / "sessions")
    monkeypatch.setattr(Bundle, "pickled", [])
    assert accept(path, tmp_path / "sessions")


def test_without_the_cap_rows_come_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "FREE_ROWS", 0)
    monkeypatch.setattr(loading, "ROWS_A_BYTE", 0)
    path = forge(tmp_path / "a.otf", good(tmp_path))
    with pytest.raises(OnTheFlyError, match="rows in"):
        import_bundle(path, tmp_path / "sessions")
    monkeypatch.setattr(loading, "FREE_ROWS", 100)
    assert accept(path, tmp_path / "sessions")


@pytest.mark.parametrize("protected", [True, False])
def test_what_is_in_the_records_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:  # fmt: skip
    members = good(tmp_path)
    members["journal.jsonl"] = members["journal.jsonl"].replace(b"baseline", b"../../x")
    if not protected:
        monkeypatch.setattr(loading, "RUN_PATTERN", re.compile(".*"))
    assert accept(forge(tmp_path / "a.otf", members), tmp_path / "sessions") != protected


def test_a_process_that_dies_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What DuckDB might do with a hostile file."""
    good(tmp_path)
    monkeypatch.setattr(importing.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (tmp_path / "python").chmod(0o700)
    with pytest.raises(OnTheFlyError, match="has died"):
        importing.in_child(tmp_path / "good.otf", tmp_path / "sessions")
    monkeypatch.undo()
    assert importing.in_child(tmp_path / "good.otf", tmp_path / "sessions") == ID
