"""Bundles that nobody should take, each by its name.

Run as a module, it makes them (``make``), or tries to import them all and tells what happened (``attack``): with 1 GiB
of address space, and an audit hook that sees what would be unpickled.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import resource
import stat
import struct
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from onthefly.bundle import sealed
from onthefly.errors import OnTheFlyError
from onthefly.hub.importing import import_bundle
from tests.bundle.forging import forge, good, recheck, tensors

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESS_SPACE = 1 << 30
MARKER = "it-ran"

NAMES = [
    "../evil", "../../evil", "script/../../evil", "script/..", "/etc/evil", "//evil", "C:/evil", "C:evil", "..\\evil",
    "script\\..\\evil", "script//a", "script/./a", "script/a/", "script/", "./script/a", "~/evil", "", ".", "..", "a",
    "script/.ssh", "script/con.py", "script/NUL", "script/aux.tar.gz", "script/com1.txt", "script/LPT9", "script/a.",
    "script/a:stream", "script/a b", "script/a\nb", "script/a\0b", "script/%2e%2e/a", "checkpoints/../x/y",
    "checkpoints/baseline-1/../../x", "checkpoints/a b/c", "checkpoints/baseline-1", "checkpoints/x/y/z",
    "rank1/evil", "rankx/checkpoints/a/b", "rank1/../checkpoints/a/b", "tables/evil.parquet", "tables/samples.csv",
    "tables/../samples.parquet", "trusted/../x.pkl", "trusted/x.py", "store.duckdb", "hub.json", "spool/0-1.frames",
    "session.json/x", "script/" + "a/" * 9 + "b", "script/" + "a" * 300, "surroundings.json",
]  # fmt: skip


@functools.lru_cache
def million() -> bytes:
    """An object of a million keys."""
    return b"{" + b",".join(b'"%d":0' % number for number in range(10**6)) + b"}"


def peak(fresh: bool = False) -> int:
    """The most resident memory of this process so far, or from now on, in KiB (``ru_maxrss`` is inherited)."""
    if fresh:
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, where: Path) -> None:
        self._where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self._where / MARKER, "x"))


def parquet(query: str, path: Path) -> bytes:
    """A table made by DuckDB."""
    duckdb.connect().execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
    return path.read_bytes()


def foreign(members: dict[str, bytes], change: Callable[[zipfile.ZipFile], object], **options: Any) -> bytes:
    """A zip that another program made of the members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name), data, **({"compress_type": zipfile.ZIP_DEFLATED} if options else {}))
        change(made)
    return file.getvalue()


def link(made: zipfile.ZipFile) -> None:
    """Add a symbolic link."""
    info = zipfile.ZipInfo("script/link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    made.writestr(info, "/etc/passwd")


class Corpus:
    """Writes them; ``tried`` names each with its file, and whether ``--trust`` is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = good(folder)
        self.tried: dict[str, tuple[Path, bool]] = {}

    def put(self, name: str, parts: Any = None, *, trust: bool = False, **changes: Any) -> None:
        """A forged one."""
        path = self.folder / f"{len(self.tried)}.otf"
        self.tried[name] = forge(path, self.base if parts is None else parts, **changes), trust

    def raw(self, name: str, data: bytes) -> None:
        """One that is these bytes."""
        path = self.folder / f"{len(self.tried)}.otf"
        path.write_bytes(data)
        self.tried[name] = path, False

    def having(self, name: str, member: str, data: bytes, **changes: Any) -> None:
        """The good one with another member."""
        self.put(name, {**self.base, member: data}, **changes)

    def fill(self) -> None:
        """All of them."""
        self.names()
        self.containers()
        self.manifests()
        self.documents()
        self.tables()
        self.tensors()
        self.pickles()

    def names(self) -> None:
        """What would be written elsewhere, or twice."""
        for name in NAMES:
            self.put(f"name {name[:40]!r}", {**self.base, name: b"evil"})
        pairs = list(self.base.items())
        for name, more in {
            "a name twice": [("script/s.py", b"x")], "letter case": [("script/S.py", b"x")],
            "a file and a folder": [("script/s.py/x", b"x")],
            "folders by letter case": [("script/a/x", b"x"), ("script/A/y", b"y")],
            "a manifest twice": [("manifest.json", b"{}")],
        }.items():  # fmt: skip
            self.put(name, [*pairs, *more])

    def containers(self) -> None:
        """What is no container of ours."""
        whole = (self.folder / "good.otf").read_bytes()
        everything = {**self.base, "manifest.json": b"{}"}
        self.raw("made by zipfile", foreign(everything, lambda made: None))
        self.raw("compressed", foreign(everything, lambda made: None, compression=zipfile.ZIP_DEFLATED))
        self.raw("a link", foreign(everything, link))
        self.raw("a comment", foreign(everything, lambda made: setattr(made, "comment", b"x")))
        self.raw("a zip bomb", foreign({**everything, "script/zero": bytes(1 << 26)}, lambda made: None,
                                       compression=zipfile.ZIP_DEFLATED))  # fmt: skip
        self.raw("five thousand members", foreign({f"script/{n}": b"" for n in range(5000)}, lambda made: None))
        self.raw("bytes before it", b"#!/bin/sh\n" + whole)
        self.raw("bytes behind it", whole + b"x")
        self.raw("two in one", whole + whole)
        self.raw("cut", whole[: len(whole) // 2])
        self.raw("empty", b"")
        self.raw("no zip", b"x" * 1000)
        for name, at, form, value in (("a count of members", -74, "<QQ", (1 << 40, 1 << 40)),
                                      ("a directory of a terabyte", -58, "<Q", (1 << 40,)),
                                      ("a directory behind the end", -50, "<Q", (1 << 60,))):  # fmt: skip
            data = bytearray(whole)
            struct.pack_into(form, data, len(data) + at, *value)
            self.raw(name, bytes(data))
        overlapping = bytearray(whole)
        at = whole.rindex(b"PK\x01\x02")  # of the manifest: let it begin where the first member does
        struct.pack_into("<Q", overlapping, at + 46 + len("manifest.json") + 4 + 16, 0)
        self.raw("overlapping members", bytes(overlapping))

    def manifests(self) -> None:
        """What a manifest must not say."""
        one = {"name": "session.json", "bytes": 1, "sha256": "0" * 64, "kind": "json"}
        said: dict[str, dict[str, Any]] = {
            "a later format": {"format": 2}, "no format": {"format": "1"}, "format true": {"format": True},
            "format zero": {"format": 0}, "no members": {"members": []}, "members that are none": {"members": {"a": 1}},
            "one that is missing": {"members": [one]}, "a member with more": {"members": [{**one, "more": 1}]},
            "bytes in words": {"members": [{**one, "bytes": "1"}]}, "another kind of thing": {"kind": "checkpoint"},
            "an id that is a path": {"session": "../../ab"}, "an id that is no text": {"session": 7},
        }  # fmt: skip
        for name, changes in said.items():
            self.put(f"manifest: {name}", **changes)
        self.put("manifest: without seal", text=b'{"format": 1, "members": []}')
        self.put("manifest: deep", text=b"[" * 100_000)
        self.put("manifest: a million keys", text=b'{"format":1,' + million()[1:])
        self.put("manifest: no JSON", text=b"\xff\xfe")
        self.put("manifest: six megabytes", text=sealed.text({"format": 1, "x": "a" * 6_000_000}))
        listed = [{"name": name, "bytes": len(data), "sha256": "0" * 64, "kind": "script"}
                  for name, data in self.base.items()]  # fmt: skip
        self.put("manifest: other hashes and kinds", members=listed)

    def documents(self) -> None:
        """What documents must not hold."""
        told = json.loads(self.base["session.json"])
        for name, changes in {
            "a state that is none": {"state": "hacked"}, "a run that is a path": {"run": "../x"},
            "a step below zero": {"step": -1}, "a step beyond all": {"step": 1 << 62},
            "a time that is none": {"started": 1e300},
            "text for a number": {"samples": "many"}, "ranks that are none": {"ranks": [1]},
            "deep": {"controls": {"keep": {"a": json.loads("[" * 200 + "]" * 200)}}},
        }.items():  # fmt: skip
            self.having(f"session: {name}", "session.json", json.dumps({**told, **changes}).encode())
        self.having("session: a million keys", "session.json", million())
        self.having("session: a number of a million digits", "session.json", b'{"id":' + b"1" * 10**6 + b"}")
        self.having("session: a key twice", "session.json", b'{"id":"a","id":"b"}')
        self.having("runs: none", "runs.json", b"[]")
        self.having("environment: a list", "environment.json", b"[]")
        self.having("environment: deep", "environment.json", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")
        self.having("environment: a million keys", "environment.json", million())
        self.having("environment: not a number", "environment.json", b'{"a":NaN}')
        self.having("journal: no entry", "journal.jsonl", b'{"name":"set"}\n')
        self.having("journal: a run that is a path", "journal.jsonl",
                    self.base["journal.jsonl"].replace(b"baseline", b"../../x"))  # fmt: skip
        self.having(
            "journal: deep", "journal.jsonl", self.base["journal.jsonl"].replace(b'"lr"', b"[" * 99 + b"]" * 99)
        )
        tag = b'{"loader":"loader0","sample":1,"key":null,"tag":"%b","by":"ana","time":%b}\n'
        self.having("tags: a tag that is none", "tags.jsonl", tag % (b"a b", b"1"))
        self.having("tags: a time beyond all", "tags.jsonl", tag % (b"hard", b"1e300"))
        self.having("health: no verdict", "health.jsonl",
                    b'{"rank":0,"pid":1,"result":{"check":"a","verdict":"fine","says":""}}\n')  # fmt: skip
        self.having("health: a run that is a path", "health.jsonl",
                    b'{"rank":0,"pid":1,"result":{"check":"a","verdict":"good","says":"","run":"../x"}}\n')  # fmt: skip
        test = json.dumps({"rank": 0, "pid": 1, "evaluation": {
            "kind": "test", "label": "test_1", "run": "../x", "step": 1, "epoch": 0, "loader": "", "mode": "eval",
            "by": "", "began": 1.0, "seconds": 1.0, "count": 1, "how": "",
        }}).encode()  # fmt: skip
        self.having("evaluations: a run that is a path", "evaluations.jsonl", test + b"\n")
        self.having("evaluations: a process that is none", "evaluations.jsonl",
                    test.replace(b"../x", b"a").replace(b'"pid": 1', b'"pid": -1') + b"\n")  # fmt: skip
        self.having("logs: no stream", "logs.jsonl", b'{"time":1,"rank":0,"stream":"stdin","text":""}\n')
        self.having("logs: a rank beyond all", "logs.jsonl", b'{"time":1,"rank":99999,"stream":"stdout","text":""}\n')
        self.having("logs: one endless line", "logs.jsonl", b"x" * (17 << 20))
        for name in ("session.json", "runs.json", "environment.json", "journal.jsonl"):
            self.put(f"without {name}", {one: data for one, data in self.base.items() if one != name})

    def tables(self) -> None:
        """What tables must not be."""
        base = self.folder / "base.parquet"
        base.write_bytes(self.base["tables/samples.parquet"])
        rows = f"read_parquet('{base}')"
        forty = ", ".join('1::REAL AS "loss.c%d"' % number for number in range(40))  # noqa: UP031
        self.having("table: none", "tables/samples.parquet", b"PAR1" + bytes(100) + b"PAR1")
        self.having("table: of another kind", "tables/samples.parquet", self.base["tables/metrics.parquet"])
        self.having("table: a file elsewhere", "tables/samples.parquet", b"/etc/passwd")
        for name, query in {
            "columns that lack": f"SELECT * EXCLUDE (loss) FROM {rows}",
            "columns in another order": f"SELECT run, * EXCLUDE (run) FROM {rows}",
            "a column of another type": f"SELECT * REPLACE (loss::DOUBLE AS loss) FROM {rows}",
            "a column more": f"SELECT *, 1 AS more FROM {rows}",
            "a component that is a statement": f'SELECT *, 1::REAL AS "loss.a"" REAL); DROP TABLE x; --" FROM {rows}',
            "a component of another type": f'SELECT *, 1::DOUBLE AS "loss.a" FROM {rows}',
            "forty components": f"SELECT *, {forty} FROM {rows}",
            "a run that is a path": f"SELECT * REPLACE ('../x' AS run) FROM {rows}",
            "a phase that is none": f"SELECT * REPLACE ('evil' AS phase) FROM {rows}",
            "a certificate that is none": f"SELECT * REPLACE ('<b>' AS certificate) FROM {rows}",
            "a run that is nothing": f"SELECT * REPLACE (NULL::VARCHAR AS run) FROM {rows}",
            "a step below zero": f"SELECT * REPLACE (-1::BIGINT AS step) FROM {rows}",
            "a key of a megabyte": f"SELECT * REPLACE (repeat('x', 1000000) AS key) FROM {rows}",
            "rows without number": f"SELECT s.* FROM (SELECT * FROM {rows} LIMIT 1) s, range(6000000)",
        }.items():  # fmt: skip
            self.having(f"table: {name}", "tables/samples.parquet", parquet(query, self.folder / "made.parquet"))

    def tensors(self) -> None:
        """What tensors must not be."""
        entry = '"x":{"dtype":"F32","shape":%s,"data_offsets":%s}'
        for name, data in {
            "longer than the file": (1 << 60).to_bytes(8, "little") + b"{}",
            "a header of nothing": b"",
            "a tensor of a terabyte": tensors(f"{{{entry % ('[1099511627776]', '[0,4398046511104]')}}}".encode()),
            "a shape of more than its bytes": tensors(f"{{{entry % ('[3]', '[0,8]')}}}".encode()),
            "a shape that overflows": tensors(f"{{{entry % ('[4611686018427387904,4]', '[0,8]')}}}".encode()),
            "a size below zero": tensors(f"{{{entry % ('[-2]', '[0,8]')}}}".encode()),
            "bytes of nobody": tensors(body=bytes(16)),
            "two in one place": tensors(f'{{{entry % ("[2]", "[0,8]")},"y":{{"dtype":"F32","shape":[2],'
                                        '"data_offsets":[0,8]}}'.encode()),
            "a gap": tensors(f"{{{entry % ('[2]', '[8,16]')}}}".encode(), bytes(16)),
            "a type that is none": tensors(b'{"x":{"dtype":"PICKLE","shape":[2],"data_offsets":[0,8]}}'),
            "a million entries": tensors(b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n
                                                          for n in range(300_000)) + b"}"),
            "a deep header": tensors(b'{"x":' + b"[" * 100_000, b""),
            "a key twice": tensors(f"{{{entry % ('[2]', '[0,8]')},{entry % ('[2]', '[0,8]')}}}".encode()),
        }.items():  # fmt: skip
            self.put(f"tensors: {name}", recheck(self.base, "tensors.safetensors", data))
        self.put("state: deep", recheck(self.base, "state.json", b"[" * 5000 + b"]" * 5000))
        self.put("state: three million keys", recheck(self.base, "state.json", b"[" + b"1," * 3_000_000 + b"1]"))
        self.having("checkpoint: another file than its manifest names", "checkpoints/baseline-1/more.json", b"{}")
        self.having("checkpoint: other bytes than its manifest names", "checkpoints/baseline-1/state.json", b"{}")
        self.having("checkpoint: no manifest", "checkpoints/other/state.json", b"{}")

    def pickles(self) -> None:
        """A pickle that runs code, in each place; what must be taken with ``--trust`` must not be loaded either."""
        evil = pickle.dumps(Evil(self.folder.parent))
        for name in self.base:
            self.having(f"pickle as {name}", name, evil)
        for name in ("tensors.safetensors", "model.pt", "optimizer.pkl", "x.ckpt"):
            self.put(f"pickle in a checkpoint as {name}", recheck(self.base, name, evil))
        self.having("pickle that wants trust", "trusted/factory.pkl", evil)
        self.having("pickle that has trust", "trusted/factory.pkl", evil, trust=True)


TAKEN = {"pickle as script/s.py", "pickle that has trust"}
"""What is taken, since it is text or was trusted; nobody loads it."""


def make(folder: Path) -> None:
    """Write all, and a list of them."""
    corpus = Corpus(folder)
    corpus.fill()
    listed = {name: [str(path), trust] for name, (path, trust) in corpus.tried.items()}
    (folder / "list.json").write_text(json.dumps(listed))


def attack(folder: Path) -> None:
    """Try all; a process that has made none, so that its memory is what importing takes."""
    seen: list[str] = []
    sys.addaudithook(lambda event, given: seen.append(f"{given}") if event == "pickle.find_class" else None)
    import_bundle(folder / "good.otf", folder.parent / "warm")  # what the first one loads is no attacker's doing
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    rows: list[dict[str, Any]] = []
    for name, (path, trust) in json.loads((folder / "list.json").read_text()).items():
        before, started = peak(fresh=True), time.monotonic()
        try:
            outcome, reason = f"taken as {import_bundle(Path(path), folder.parent / 'sessions', trust=trust)}", ""
        except OnTheFlyError as error:
            outcome, reason = "refused", error.message
        rows.append({
            "name": name, "outcome": outcome, "reason": reason, "seconds": time.monotonic() - started,
            "kib": peak() - before,
        })  # fmt: skip
    print(json.dumps({"rows": rows, "unpickled": seen}))


if __name__ == "__main__":
    {"make": make, "attack": attack}[sys.argv[1]](Path(sys.argv[2]))
