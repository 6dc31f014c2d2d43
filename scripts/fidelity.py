"""``make fidelity``: loops, losses and frameworks beside brute force; what came out becomes ``docs/fidelity.md``.

Each test that compared a run with brute force leaves a line of what it saw (``tests/reporting.py``), and only if they
agree. ``fidelity.py --page REPORT JUNIT`` only writes the page.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "fidelity.md"

SUITES = ("tests/fidelity", "tests/frameworks", "tests/lightning/test_fidelity.py", "tests/cli/test_doctor.py")

PARTS = {"framework": "Frameworks", "loop": "Loops", "loss": "Losses"}
"""Of the table, in their order; kinds that are not named here come after them, under their own name."""

BAR = "\\|"
"""A bar within a cell."""

PACKAGES = ("accelerate", "datasets", "keras", "lightning", "pytorch-ignite", "sentence-transformers", "skorch",
            "torch-geometric", "transformers")  # fmt: skip


def main() -> int:
    """Run the suites, and write the page if all tests passed; pytest's exit code."""
    if sys.argv[1:2] == ["--page"]:
        write_page(Path(sys.argv[2]), Path(sys.argv[3]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        report, junit = Path(folder) / "report.json", Path(folder) / "junit.xml"
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--junitxml", str(junit), *SUITES],
            cwd=ROOT, check=False, env={**os.environ, "ONTHEFLY_FULL": "1", "ONTHEFLY_REPORT": str(report)},
        ).returncode  # fmt: skip
        if code == 0:
            write_page(report, junit)
    return code


def write_page(report: Path, junit: Path) -> None:
    """Make ``docs/fidelity.md``."""
    rows = list(json.loads(report.read_text(encoding="utf-8"))["fidelity"].values())
    PAGE.write_text("\n".join(page(rows, defects(junit))) + "\n", encoding="utf-8")
    print(f"{len(rows)} rows: {PAGE}")


def page(rows: list[dict[str, str]], wrong: list[tuple[str, str]]) -> list[str]:
    """Its lines, from the rows that the tests left and the defects that they expect."""
    whole = sum((row["certificate"], row["identity"]) == ("exact", "index") for row in rows)
    lines = [
        "# Fidelity: what is captured of what",
        "",
        "Made by `make fidelity`, not by hand: each row is what a test saw that compared every record of a run with",
        "brute force, its values and its samples. Frameworks are the real packages in unmodified scripts, with tiny",
        "models.",
        "",
        "`losses`: whether each sample has its value. `identity`: how it is known which sample that is. `certificate`:",
        "whether the values give the script's own number again. Where a row is not exact with an index, it says why.",
        "",
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, torch {version('torch')}, {versions()}.",
        "",
        f"{len(rows)} rows, {whole} of them exact with an index.",
        "",
    ]
    kinds = {row["kind"] for row in rows}
    for kind in [*(kind for kind in PARTS if kind in kinds), *sorted(kinds - set(PARTS))]:
        lines += [f"## {PARTS.get(kind, kind.capitalize())}", ""]
        lines += ["| what | losses | identity | certificate | reason |", "| --- | --- | --- | --- | --- |"]
        mine = sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["name"].lower())
        for row in mine:
            cells = [row[column] for column in ("name", "losses", "identity", "certificate", "reason")]
            lines.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
        lines.append("")
    lines += ["## Known to be wrong", ""]
    lines += [f"- `{test}`: {fault}" for test, fault in wrong] or ["Nothing."]
    return lines


def defects(junit: Path) -> list[tuple[str, str]]:
    """Tests that are expected to fail, and the fault that they show."""
    found: list[tuple[str, str]] = []
    for case in ElementTree.parse(junit).iter("testcase"):
        test = case.get("classname", "").rpartition(".")[2]
        _, bracket, parameters = case.get("name", "").partition("[")
        found += [
            (f"{test}{bracket}{parameters}", str(mark.get("message")))
            for mark in case.iter("skipped") if mark.get("type") == "pytest.xfail"
        ]  # fmt: skip
    return found


def versions() -> str:
    """Of the frameworks that are installed."""
    found: list[str] = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    sys.exit(main())
