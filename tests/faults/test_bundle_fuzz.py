"""F7: bundles mutated by chance, with hashes and seals that are right again: taken or refused, and nothing else."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.reporting import note

COUNT = 10_000 if os.environ.get("ONTHEFLY_FULL") else 40
SEED = 7
BATCH = 500


def mutate(members: dict[str, bytes], chance: random.Random) -> tuple[dict[str, bytes], bytes | None]:
    """Other members, or what stands in the place of the whole file's bytes."""
    found = dict(members)
    how = chance.choice(["bytes", "bytes", "bytes", "cut", "swap", "gone", "longer", "raw", "text"])
    name = chance.choice(list(found))
    data = bytearray(found[name])
    if how == "bytes" and data:
        for _ in range(chance.choice([1, 1, 2, 8, 64])):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif how == "cut":
        del data[chance.randrange(len(data) + 1) :]
    elif how == "longer":
        data += chance.randbytes(chance.randrange(1, 100))
    elif how == "swap":
        data = bytearray(found[chance.choice(list(found))])
    elif how == "text" and data:
        at = chance.randrange(len(data))
        word = chance.choice(
            [b'"', b"[[[[", b"}", b"-1", b"1e999", b"\\u0000", b"null", b"../", b"\0", b"99999999999999"]
        )
        data[at : at + chance.randrange(8)] = word
    found[name] = bytes(data)
    if how == "gone":
        del found[name]
    if how == "raw":
        return found, chance.randbytes(1) * chance.randrange(1, 4)
    return found, None


def attack(folder: Path, first: int, count: int) -> dict[str, Any]:
    """Import so many; how it went."""
    from onthefly.errors import OnTheFlyError
    from onthefly.hub.importing import import_bundle
    from tests.bundle.forging import forge, good, recheck

    seen: list[str] = []
    watched = ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "socket.connect")
    sys.addaudithook(lambda event, given: seen.append(event) if event in watched else None)
    base, counts = good(folder), {"taken": 0, "refused": 0}
    whole = (folder / "good.otf").read_bytes()
    for number in range(first, first + count):
        chance = random.Random(SEED * 1_000_003 + number)
        members, piece = mutate(base, chance)
        path = folder / "mutated.otf"
        inner = [name for name in members if name.startswith("checkpoints/") and members[name] != base.get(name)]
        if inner and chance.random() < 0.7 and not inner[0].endswith("manifest.json"):
            members = recheck(members, inner[0].rpartition("/")[2], members[inner[0]])
        if piece is None:
            forge(path, members)
        else:
            at = chance.randrange(len(whole))
            path.write_bytes(whole[:at] + piece + whole[at + len(piece) :])
        try:
            import_bundle(path, folder.parent / "sessions")
            counts["taken"] += 1
        except OnTheFlyError:
            counts["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"mutation {number}: {error!r}") from error
    return {**counts, "seen": seen}


@pytest.mark.timeout(7200)
def test_mutated_bundles(tmp_path: Path) -> None:
    total = {"taken": 0, "refused": 0}
    for first in range(0, COUNT, BATCH):
        place = tmp_path / str(first) / "in"
        place.mkdir(parents=True)
        (tmp_path / str(first) / "outside").write_text("x")
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.test_bundle_fuzz", str(place), str(first), str(min(BATCH, COUNT))],
            capture_output=True, text=True, check=False, cwd=REPOSITORY,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        assert found["seen"] == []
        assert {path.name for path in place.parent.iterdir()} == {"in", "outside", "sessions"}
        sessions = list((place.parent / "sessions").iterdir())
        assert len(sessions) == found["taken"]
        for path in sessions:
            assert {one.name for one in path.iterdir()} <= {
                "session.json", "store.duckdb", "environment.json", "script", "checkpoints"
            }  # fmt: skip
        total = {name: total[name] + found[name] for name in total}
    assert total["refused"] > COUNT // 2
    assert total["taken"] > 0
    note("F7", mutated=COUNT, mutated_taken=total["taken"], mutated_ran=0, mutated_outside=0)


if __name__ == "__main__":
    print(json.dumps(attack(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
