"""``onthefly export SESSION FILE.otf``: a session as one file; ``--checkpoint NAME -o FILE``: the weights of one.

The hub writes documents and tables down, and this process puts the bundle together: a gigabyte that is copied here
costs the hub nothing, and who holds the hub's token still cannot have it write a file outside of its data folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from onthefly.bundle import gather
from onthefly.bundle.archive import SUFFIX
from onthefly.bundle.source import NEWEST, checkpoint_folder
from onthefly.cli.ps import size
from onthefly.errors import UsageError
from onthefly.link.client import Client
from onthefly.settings import Settings

PATIENCE = 3600.0
"""Seconds that the tables of a session may take."""


def main(argv: list[str]) -> int:
    """Write the file; what it holds is told on standard error, or as JSON."""
    options = _parser().parse_args(argv[1:])
    target = Path(options.output or options.file or "")
    if not target.name:
        raise UsageError("export needs the name of a file", f"onthefly export SESSION FILE{SUFFIX}")
    if options.checkpoint:
        return _checkpoint(options, target)
    if target.suffix.lower() != SUFFIX:
        raise UsageError(f"{target}: the name must end in {SUFFIX}",
                         "of one checkpoint, --checkpoint NAME writes .safetensors, .pt or .ckpt")  # fmt: skip
    chosen: list[str] = options.checkpoints or [gather.ALL]
    wanted = {"runs": options.run, "checkpoints": chosen, "samples": options.samples, "logs": options.logs,
              "script": options.script, "pid": os.getpid()}  # fmt: skip
    with Client(Settings(), start=True) as client:
        staged = client.post(f"sessions/{quote(options.session, safe='')}/stage", wanted, seconds=PATIENCE)
    stage = Path(staged["stage"])
    try:
        written, left_out = gather.pack(
            target.absolute(), stage, Path(staged["folder"]), checkpoints=chosen, runs=options.run
        )
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    told = {"file": str(target), "session": staged["session"], "bytes": written.bytes, "members": written.members,
            "seconds": round(written.seconds, 3), "left_out": left_out}  # fmt: skip
    if options.json:
        print(json.dumps(told))
    else:
        sys.stderr.write(f"onthefly: {target}: {size(written.bytes)} in {written.members} parts\n")
        sys.stderr.writelines(f"onthefly: left out: {reason}\n" for reason in left_out)
    return 0


def _checkpoint(options: Any, target: Path) -> int:
    """The weights of one checkpoint, for programs that know nothing of us."""
    if target.suffix not in (".safetensors", ".pt", ".ckpt"):
        raise UsageError(f"{target}: the name must end in .safetensors, .pt or .ckpt",
                         "onthefly export SESSION --checkpoint NAME -o model.safetensors")  # fmt: skip
    with Client(Settings(), start=True) as client:
        session = client.json(f"sessions/{quote(options.session, safe='')}")["id"]
    folder = checkpoint_folder(Settings().data_dir / "sessions" / session,
                               NEWEST if options.checkpoint == "last" else options.checkpoint)  # fmt: skip
    from onthefly.state import export  # torch: a second

    count = getattr(export, f"export_{target.suffix[1:]}")(folder, target)
    if options.json:
        print(json.dumps({"file": str(target), "session": session, "checkpoint": folder.name, "bytes": count}))
    else:
        sys.stderr.write(f"onthefly: {target}: {size(count)}, of the checkpoint {folder.name}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onthefly export",
        description="A session as one file, a bundle: also while it runs. With --checkpoint, one checkpoint's weights.",
    )
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("file", nargs="?", metavar=f"FILE{SUFFIX}", help="the bundle; replaced as a whole")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the same; with --checkpoint .safetensors, .pt or Lightning's .ckpt"
    )
    parser.add_argument(
        "--run", action="append", default=[], metavar="RUN", help="only this run (several times: these)"
    )
    parser.add_argument("--checkpoints", nargs="+", metavar="NAME", help="all (default), newest, none, or names")
    parser.add_argument("--no-samples", dest="samples", action="store_false", help="without the records of samples")
    parser.add_argument("--no-logs", dest="logs", action="store_false", help="without what the script wrote")
    parser.add_argument("--no-script", dest="script", action="store_false", help="without the files of the script")
    parser.add_argument("--checkpoint", metavar="NAME", help="only the weights of this one (last: the newest)")
    parser.add_argument("--json", action="store_true", help="tell what was written as JSON")
    return parser
