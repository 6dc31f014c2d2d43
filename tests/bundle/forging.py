"""Bundles made for the tests: a good one of a small session, and ones that nobody should take."""

from __future__ import annotations

import hashlib
import io
import json
import time
from typing import TYPE_CHECKING, Any

from onthefly.bundle import folder, gather, names, sealed, zips
from onthefly.bundle.refusals import Damaged
from onthefly.hub import staging
from onthefly.hub.store import STORE_NAME, Source, Store
from onthefly.protocol import ExportRequest, Journaled, JournalEntry, Logged, Metrics, Rank, Session
from tests.hub.agent import records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ID = "abcdefgh"


def session(**changes: Any) -> Session:
    """A session that has ended."""
    given: dict[str, Any] = {
        "id": ID, "name": "s.py", "project": "", "script": "s.py", "argv": ["s.py", "--token", "secret"],
        "cwd": "/home/somebody/project", "run": "baseline", "state": "ended", "since": 2.0, "by": "", "reason": "",
        "started": 1.0, "ended": 2.0, "step": 3, "epoch": 0, "backwards": 3, "samples": 12, "loss": 1.0,
        "step_ms": None, "onthefly_us": None, "world_size": 1, "notices": [], "versions": {"torch": "2"},
        "ranks": [Rank(rank=0, pid=1, node="host", connected=True, step=3)], "metrics": ["lr"],
    }  # fmt: skip
    return Session(**{**given, **changes})


def tensors(header: bytes = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', body: bytes = bytes(8)) -> bytes:
    """A file of tensors."""
    return len(header).to_bytes(8, "little") + header + body


def good(where: Path) -> dict[str, bytes]:
    """The members of a good bundle: everything a session may hold, the manifest aside."""
    home = where / ID
    store = Store(home / STORE_NAME, ID)
    entry = JournalEntry(time=1.0, run="baseline", step=1, epoch=0, backward=1, point=1, name="set",
                         args={"name": "lr"}, before={}, after={}, by="me")  # fmt: skip
    frames = [
        records(0, 3, 4, components={"mse": bytes(48)}),
        Metrics(run="baseline", step=bytes(8), epoch=bytes(4), time=bytes(8), values={"lr": bytes(8)}),
        Logged(stream="stdout", time=1.0, text="hello\n"), Journaled(entry=entry),
    ]  # fmt: skip
    store.write([(Source(0, 1, seq), frame) for seq, frame in enumerate(frames, 1)])
    about = {"run": "baseline", "step": 1, "epoch": 0, "time": 1.0, "reason": "asked"}
    content = {"tensors.safetensors": [tensors()], "state.json": [b'{"a":[1]}']}
    folder.write(home / "checkpoints", "baseline-1", content, about)
    told = {"packages": {"torch": "2"}, "texts": {"script/s.py": "print(1)\n"}}
    (home / staging.SURROUNDINGS).write_text(json.dumps(told))
    stage = where / "stage"
    stage.mkdir()
    with store.reading() as cursor:
        staging.write(cursor, stage, home, session(), {}, ExportRequest())
    store.close()
    gather.pack(where / "good.otf", stage, home)
    with open(where / "good.otf", "rb") as file:
        return {
            entry.name: b"".join(map(bytes, zips.pieces(file, entry)))
            for entry in zips.entries(file) if entry.name != names.MANIFEST
        }  # fmt: skip


def forge(
    path: Path, parts: Mapping[str, bytes] | list[tuple[str, bytes]], *, text: bytes | None = None, **changes: Any
) -> Path:
    """A bundle of these parts, whatever they are called, with hashes, manifest and seal that are right.

    ``changes`` of the manifest; ``text`` in its place.
    """
    pairs = list(parts.items()) if not isinstance(parts, list) else parts
    file = io.BytesIO()
    writer = zips.Writer(file)
    for name, data in pairs:
        writer.add(name, lambda out, data=data: zips.written(out, [data]))
    listed = [
        {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "kind": _kind(name)}
        for name, data in pairs
    ]
    head = {"format": 1, "kind": "session", "session": ID, "made": time.time(), "members": listed, **changes}
    writer.add(names.MANIFEST, lambda out: zips.written(out, [sealed.text(head) if text is None else text]))
    writer.close()
    path.write_bytes(file.getvalue())
    return path


def recheck(members: dict[str, bytes], name: str, data: bytes) -> dict[str, bytes]:
    """With another file in the checkpoint, which its own manifest vouches for."""
    prefix = "checkpoints/baseline-1/"
    found = {**members, f"{prefix}{name}": data}
    about = json.loads(members[f"{prefix}manifest.json"])
    about.pop("seal")
    about["members"] = [
        {"name": one[len(prefix) :], "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for one, content in found.items() if one.startswith(prefix) and not one.endswith("manifest.json")
    ]  # fmt: skip
    found[f"{prefix}manifest.json"] = sealed.text(about)
    return found


def _kind(name: str) -> str:
    try:
        return names.kind_of(name)
    except Damaged:
        return "script"
