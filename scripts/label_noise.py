"""Measures how well wrong labels are found, and writes the table of ``docs/dynamics.md``.

``label_noise.py --page REPORT`` only writes the table, from figures that the test has noted (``tests/reporting.py``).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "dynamics.md"
BEGIN, END = "<!-- made by scripts/label_noise.py -->\n", "<!-- end -->\n"

ROWS = {
    "loss_mean": "`--order loss_mean`",
    "confidence": "`--order confidence`",
    "margin": "`--order margin` (area under the margin)",
    "forgetting": "`--order forgetting`",
    "cleanlab": "cleanlab's label quality, five-fold cross-validation",
}


def main() -> int:
    """Run the test and write the table; pytest's exit code."""
    if sys.argv[1:2] == ["--page"]:
        write_table(Path(sys.argv[2]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/noise"], cwd=ROOT, check=False,
            env={**os.environ, "ONTHEFLY_FULL": "1", "ONTHEFLY_REPORT": str(report)},
        ).returncode  # fmt: skip
        if report.exists():
            write_table(report)
    return code


def write_table(report: Path) -> None:
    """Put the figures between the two marks of the page."""
    found: dict[str, list[float]] = json.loads(report.read_text(encoding="utf-8"))["label noise"]
    lines = ["| list | precision, mean | of each seed |", "| --- | --- | --- |"]
    for name, text in ROWS.items():
        values = found.get(name)
        mean = f"{statistics.fmean(values):.3f}" if values else "not recorded"
        lines.append(f"| {text} | {mean} | {', '.join(f'{value:.3f}' for value in values or [])} |")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
