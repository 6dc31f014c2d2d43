"""``onthefly report SESSION``: a run as one HTML file, which opens without server and without network."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import quote

from onthefly.errors import ExitCode, OnTheFlyError
from onthefly.link.client import Client
from onthefly.settings import Settings


def main(argv: list[str]) -> int:
    """Write the file, whole or not at all."""
    parser = argparse.ArgumentParser(prog="onthefly report", description="A run as one HTML file.")
    parser.add_argument("session", help="id, unique prefix, or last")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to (default: onthefly-SESSION.html here)")
    options = parser.parse_args(argv[1:])
    with Client(Settings()) as client:
        session: str = client.json(f"sessions/{quote(options.session, safe='')}")["id"]
        body = client.get(f"sessions/{session}/report")
    path = Path(options.output or f"onthefly-{session}.html")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(body)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OnTheFlyError(f"{path} cannot be written: {error.strerror or error}", "-o FILE elsewhere") from error
    sys.stderr.write(f"onthefly: {path}: {len(body) / 1e3:,.0f} kB\n")
    return ExitCode.DONE
