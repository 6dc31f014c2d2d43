"""``onthefly import FILE.otf``: a bundle becomes a session of this machine, to be looked at in the dashboard.

Everything is verified before anything is visible, nothing is unpickled, and torch is not needed. It is put together by
a process of its own, beside its place in the data folder; the hub is told when it stands there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from onthefly.errors import UsageError
from onthefly.link.client import Client
from onthefly.settings import Settings


def main(argv: list[str]) -> int:
    """Print the id of the session."""
    parser = argparse.ArgumentParser(prog="onthefly import", description="Open a bundle as a session.")
    parser.add_argument("file", metavar="FILE.otf")
    parser.add_argument("--trust", action="store_true", help="take a bundle with pickled parts, too (none is loaded)")
    parser.add_argument("--json", action="store_true", help="print the session as JSON")
    options = parser.parse_args(argv[1:])
    path, settings = Path(options.file), Settings()
    if path.suffix.lower() in (".pt", ".pth", ".ckpt"):
        raise UsageError(f"{path}: only bundles (.otf) are imported in this version",
                         "a file of torch is loaded by the script: torch.load(..., weights_only=True)")  # fmt: skip
    from onthefly.hub.importing import in_child

    identifier = in_child(path, settings.data_dir / "sessions", trust=options.trust)
    with Client(settings, start=True) as client:
        session = client.post("import", {"session": identifier})
    if options.json:
        print(json.dumps(session, indent=2))
    else:
        print(f"session {identifier}: {session['name']}, {session['reason']}")
    return 0
