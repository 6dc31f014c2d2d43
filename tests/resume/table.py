"""Every script, interrupted at random places: ``python -m tests.resume.table [SCRIPT ...] [--jobs N] [--write]``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.conftest import REPOSITORY
from tests.resume.cases import CASES, Case
from tests.resume.harness import EXACT, REFUSED, UNWRITTEN, WRONG, Result, drawn, prove, prove_on, replayed
from tests.resume.running import Bench, end_hub

PAGE = REPOSITORY / "docs" / "resume-table.md"
HEAD = """# Resumed scripts: what was proven

Each script of `tests/resume/scripts` was run plain, and interrupted at random steps in each of these ways: killed by
`kill -9` at the checkpoint, killed some steps after it, ended by `stop`, and twice within five steps; then resumed in
a fresh process to its end, from the checkpoint at that step or, where nobody could go on from it (between the two
steps of a GAN), from the one that was made in its place at the next pause point. *exact*: exit code, every later
printed line and every file are those of the plain run, bit for bit. *refused*: told so with a reason, and nothing was
run. Written by `python -m tests.resume.table --write`.

| script | what is in it | result | steps run again |
| --- | --- | --- | --- |
"""


class Row(NamedTuple):
    """What became of one script."""

    case: Case
    results: list[Result]
    skipped: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong."""
        return all(result.sound for result in self.results)

    def __str__(self) -> str:
        again = [count for count in map(replayed, self.results) if count is not None]
        spread = f"{min(again)} to {max(again)}" if again else ""
        return f"| `{self.case.name}` | {self.case.what} | {self._told()} | {spread} |"

    def _told(self) -> str:
        if self.skipped:
            return f"not run: {self.skipped}"
        parts: list[str] = []
        for verdict in (EXACT, UNWRITTEN, REFUSED, WRONG):
            found = [result for result in self.results if result.verdict == verdict]
            if found:
                why = sorted({" ".join(result.detail.split()) for result in found} - {""})
                parts.append(f"{verdict} ({len(found)} of {len(self.results)})" + (f": {why[0]}" if why else ""))
        return "; ".join(parts)


def row(case: Case, seed: int, home: Path) -> Row:
    """Interrupt one script in every way."""
    if case.missing:
        return Row(case, [], case.missing)
    chance = random.Random(f"{seed} {case.name}")
    folder = Path(tempfile.mkdtemp(prefix="resume-"))
    try:
        if not case.seeded:
            return Row(case, prove_on(case, sorted(chance.sample(range(2, 28), 4)), folder, home))
        with Bench(folder / "plain", case, home) as bench:
            whole = bench.plain()
        chains = enumerate(drawn(case, whole, chance))
        return Row(case, [prove(case, cuts, folder / str(place), whole, home) for place, cuts in chains])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written() -> dict[str, str]:
    """The rows that the page has, by script: those that are not run again stay."""
    lines = PAGE.read_text(encoding="utf-8").splitlines(keepends=True) if PAGE.exists() else []
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def main() -> int:
    """Prints the table; code 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help="all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(REPOSITORY)}")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="resume-home-"))
    rows: list[Row] = []
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            cases = [CASES[name] for name in options.scripts or CASES]
            for each in pool.map(lambda case: row(case, options.seed, home), cases):
                rows.append(each)
                print(each, flush=True)
    finally:
        end_hub(home)
        shutil.rmtree(home, ignore_errors=True)
    if options.write:
        lines = {**_written(), **{each.case.name: f"{each}\n" for each in rows}}
        PAGE.write_text(HEAD + "".join(lines[name] for name in CASES if name in lines), encoding="utf-8")
    return int(not all(each.sound for each in rows))


if __name__ == "__main__":
    sys.exit(main())
