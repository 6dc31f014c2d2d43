"""Files that a script has open, or has closed, go on in another process where they were at the checkpoint."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onthefly.errors import Refused
from onthefly.state.openfiles import describe, open_anew, restore
from onthefly.state.written import put_back

REPOSITORY = Path(__file__).resolve().parents[2]


def opened(path: Path, mode: str) -> Any:
    """A file of that mode, as a script opens it; text whose line ends are translated."""
    return open(path, mode) if "b" in mode else open(path, mode, encoding="utf-8", newline="\r\n")


def line(file: Any, number: int) -> None:
    """Write the line of a step; what it writes is longer than before, so that places differ."""
    text = f"step {number} {'é' * number}\n"
    file.write(text.encode() if "b" in file.mode else text)


def twice(path: Path, mode: str, *, first: int = 0) -> tuple[Any, Path]:
    """The interrupted run writes steps up to 9, with its checkpoint after step 5; then a prefix of ``first`` steps."""
    file = opened(path, mode)
    for number in range(6):
        line(file, number)
    described = json.loads(json.dumps(describe(file)))
    for number in range(6, 10):
        line(file, number)
    file.close()
    before = path.read_bytes()
    aside = path.with_name("aside")
    path.rename(aside)  # as the prefix's undo does it
    path.write_bytes(before if mode[0] == "a" else b"")
    live = opened(path, "w" if mode[0] == "x" else mode)
    for number in range(first):
        line(live, number)
    aside.replace(path)
    return (live, described), path


@pytest.mark.parametrize("mode", ["w", "a", "wb", "ab", "w+", "w+b", "a+"])
@pytest.mark.parametrize("anew", [False, True])
def test_what_follows_is_written_once(tmp_path: Path, mode: str, anew: bool) -> None:
    (live, described), path = twice(tmp_path / "log", mode, first=2)
    cut_from = path.read_bytes()
    kept = tmp_path / "kept"
    if anew:
        live.close()
        live, told = open_anew({**described, "reads": described["reads"] and "b" in mode}, kept)
    else:
        told = restore(live, described, kept)
    assert told == ""
    assert path.read_bytes() == cut_from[: described["size"]]
    (tail,) = kept.iterdir()
    assert tail.read_bytes() == cut_from[described["size"] :]
    for number in range(6, 10):
        line(live, number)
    live.close()
    if anew and "b" not in mode:
        assert path.read_bytes().replace(b"\r\n", b"\n") == cut_from.replace(b"\r\n", b"\n")
    else:
        assert path.read_bytes() == cut_from


def test_readers_go_on_where_they_were(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = [f"{number}, {'é' * (number % 7)}\n" for number in range(5000)]
    path.write_text("".join(lines), encoding="utf-8")
    for stop in (1, 5, 700, 4998):
        with open(path, encoding="utf-8") as file, open(path, encoding="utf-8") as live, open(path, "rb") as raw:
            for _ in range(stop):
                next(file)
            raw.read(stop)
            described = describe(file)
            assert described is not None
            rest = file.readlines()
            assert rest == lines[stop:]
            next(live)
            assert restore(live, described, tmp_path / "kept") == ""
            assert live.readlines() == rest
            described = describe(raw)
            assert described is not None
            with open(path, "rb") as other:
                other.read(10)
                assert restore(other, described, tmp_path / "kept") == ""
                assert other.tell() == stop
                assert other.read() == path.read_bytes()[stop:]


def test_a_reader_whose_place_is_not_told_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes("a\r\nb\r\n".encode("utf-16") * 9)
    with open(path, encoding="utf-16") as file:
        next(file)
        with pytest.raises(Refused, match="read line by line"):
            describe(file)


def test_the_objects_around_a_file(tmp_path: Path) -> None:
    """A csv writer, a logging handler and ``print`` hold the same object before and after."""
    handler = logging.FileHandler(tmp_path / "run.log")
    table = open(tmp_path / "table.csv", "w", newline="")  # noqa: SIM115 - held over the function
    writer = csv.writer(table)
    record = logging.LogRecord("x", 20, "", 0, "one", None, None)
    handler.emit(record)
    writer.writerow([1, 2])
    print("three", file=table)
    described = [describe(handler.stream), describe(table)]
    for _ in range(3):
        handler.emit(record)
        writer.writerow(["twice"])
    table.flush()
    for file, then in zip((handler.stream, table), described):
        assert then is not None
        assert restore(file, then, tmp_path / "kept") == ""
    handler.emit(record)
    writer.writerow([3, 4])
    handler.close()
    table.close()
    assert (tmp_path / "run.log").read_text() == "one\none\n"
    assert (tmp_path / "table.csv").read_bytes() == b"1,2\r\nthree\n3,4\r\n"


def test_what_is_buffered_at_the_checkpoint_is_in_it(tmp_path: Path) -> None:
    with open(tmp_path / "a", "w") as file:
        file.write("buffered")
        described = describe(file)
        assert described is not None
        assert (described["size"], (tmp_path / "a").read_text()) == (8, "buffered")


def test_a_file_patched_in_place(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(b"0123456789")
    with open(path, "r+b") as file:
        file.seek(3)
        file.write(b"ab")
        described = describe(file)
        assert described is not None
        file.write(b"more than there was")
    with open(path, "r+b") as live:
        told = restore(live, described, tmp_path / "kept")
        assert "is not what it was" in told  # bytes before its end are others


def test_another_machine_and_a_changed_file_are_told(tmp_path: Path) -> None:
    (live, described), path = twice(tmp_path / "log", "w")
    path.write_bytes(b"")
    assert "it begins at the step" in restore(live, described, tmp_path / "kept")
    line(live, 6)
    live.flush()
    assert path.read_text().startswith("step 6")
    path.write_bytes(b"x" * 10)
    assert "is shorter" in restore(live, described, tmp_path / "kept")
    path.write_bytes(b"x" * 1000)
    assert "is not what it was" in restore(live, described, tmp_path / "kept")
    line(live, 7)
    live.close()
    assert path.read_text().startswith("x" * 1000 + "step 7")


def test_other_kinds(tmp_path: Path) -> None:
    text, data = io.StringIO("a\nb", newline=""), io.BytesIO(b"abc")
    text.seek(2)
    data.seek(1)
    for file, empty in ((text, io.StringIO()), (data, io.BytesIO(b"longer than it"))):
        described = json.loads(json.dumps(describe(file)))
        assert restore(empty, described, tmp_path) == ""
        anew, _ = open_anew(described, tmp_path)
        assert empty.tell() == anew.tell() == file.tell()
        assert empty.getvalue() == anew.getvalue() == file.getvalue()
        assert empty.read() == file.read()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe, os.fdopen(writer, "wb"):
        described = describe(pipe)
        assert described is not None
        assert described["kind"] == "other"
        with pytest.raises(Refused):
            open_anew(described, tmp_path)
    assert describe(object()) is None
    with open(os.devnull) as null:
        pass
    assert describe(null) == {"kind": "closed"}


def test_closed_files_are_what_they_were_at_the_checkpoint(tmp_path: Path) -> None:
    """In a process of its own: an audit hook cannot be taken out."""
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "from onthefly.state.written import Written\n"
        "written = Written()\n"
        "def epoch(n):\n"
        "    with open('log.txt', 'a') as file: file.write(f'epoch {n}\\n' * 5000)\n"
        "    json.dump(list(range(n)), open('history.json', 'w'))\n"
        "    open('best.bin', 'wb').write(bytes([n]) * 100000)\n"
        "    open('exempt/x', 'w').write('x')\n"
        "for n in range(3): epoch(n)\n"
        "open('log.txt').read()\n"
        "print(json.dumps(written.record((sys.argv[1],))))\n"
        "sys.stdout.flush()\n"
        "for n in range(3, 5): epoch(n)\n"
    )
    (tmp_path / "exempt").mkdir()
    done = subprocess.run([sys.executable, str(script), str(tmp_path / "exempt")], cwd=tmp_path, check=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True)  # fmt: skip
    record = json.loads(done.stdout)
    assert sorted(Path(entry["path"]).name for entry in record) == ["best.bin", "history.json", "log.txt"]
    log, kept = (tmp_path / "log.txt").read_bytes(), tmp_path / "kept"
    (told,) = put_back(record, kept)
    assert "best.bin has been written anew" in told
    assert (tmp_path / "log.txt").read_text() == "epoch 0\n" * 5000 + "epoch 1\n" * 5000 + "epoch 2\n" * 5000
    assert (tmp_path / "history.json").read_text() == "[0, 1]"
    saved = {path.name.partition("-")[2]: path.read_bytes() for path in kept.iterdir()}
    assert saved["log.txt"] == log[120000:]
    assert saved["history.json"] == b"[0, 1, 2, 3]"
    assert put_back([entry for entry in record if "best" not in entry["path"]], kept) == []
