"""The story of docs/runs-story.md: fork on the worst tenth, merge, compare, over ten seeds that were fixed beforehand.

``python -m tests.runs.story --write`` plays them all and writes the document.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.conftest import REPOSITORY, Home, wait_for

SEEDS = range(10)
PAUSE_EPOCH = 8
WORST = 120
"""A tenth of the 1,197 that are trained on."""

FORK = {"select": f"worst={WORST}", "epochs": 6.0, "settings": {"lr": 5e-4}}
MERGE = {"strategy": "weighted", "runs": ["baseline", "fork1"], "weights": [2.0, 1.0]}
OTHER = {"strategy": "dare", "runs": ["baseline", "fork1"], "parameters": {"drop": 0.9}, "name": "dropped"}
"""The paper's share, for models a million times as large: nobody expects it to serve here."""

SCRIPT = str(Path(__file__).parent / "scripts" / "hard_digits.py")
DOCUMENT = REPOSITORY / "docs" / "runs-story.md"


class Told(NamedTuple):
    """What came of one seed."""

    seed: int
    comparison: dict[str, Any]
    """Of ``baseline``, ``fork1`` and ``merge1``, taken or not, on the 600 that none was trained on."""
    answers: dict[str, dict[str, Any]]
    """Of the two merges, by the name of the run."""
    tested: dict[str, list[float]]
    """Losses of those 600 under each run and the merged model, taken or not, in order."""
    baseline: bytes
    """What the script printed, having gone on with the run that it was forked from."""
    plain: bytes
    """What it prints without us."""


def command(home: Home, what: str, /, **args: Any) -> dict[str, Any]:
    """Send it, and wait until it is settled."""
    body = {"id": str(uuid.uuid4()), "name": what, "args": args, "by": "the story"}
    answer: dict[str, Any] = home.post("sessions/last/commands", body)

    def settled() -> Any:
        now = answer if answer["status"] != "accepted" else home.get(f"sessions/last/commands/{answer['n']}")
        return now["status"] != "accepted" and now

    return wait_for(what, settled, 60.0)


def play(home: Home, seed: int) -> Told:
    """One seed, from the start of the script to its end."""
    slice_file = home.folder / "slice.json"
    plain = home.python(SCRIPT, str(seed), str(slice_file))
    script = home.start(sys.executable, "-m", "onthefly", SCRIPT, str(seed), str(slice_file))
    home.wait_step(1)
    assert command(home, "pause", epoch=PAUSE_EPOCH)["status"] == "applied"
    home.wait_state("paused", seconds=90.0)
    forked = command(home, "fork", **FORK)
    assert forked["status"] == "applied", forked
    wait_for("the fork", lambda: len(_runs(home)) == 2 and home.wait_state("paused"), 60.0)
    answers = {"merge1": command(home, "merge", **MERGE), "dropped": command(home, "merge", **OTHER, seed=seed)}
    assert all(answer["status"] in ("applied", "refused") for answer in answers.values()), answers
    runs = ["baseline", "fork1", "merge1"]
    select = "sample=" + ",".join(map(str, json.loads(slice_file.read_text())))
    comparison = home.get(f"sessions/last/comparison?runs={','.join(runs)}&select={quote(select)}")
    labels = {one["run"]: one["label"] for one in home.get("sessions/last/evaluations")["evaluations"]}
    tested = {run: [row["loss"] for row in home.get(f"sessions/last/samples?evaluation={label}&limit=1000")]
              for run, label in labels.items()}  # fmt: skip
    assert command(home, "switch", run="baseline")["status"] == "applied"
    assert command(home, "resume")["status"] == "applied"
    out, _ = script.communicate(timeout=120)
    return Told(seed, comparison, answers, tested, out, plain.out)


def _runs(home: Home) -> list[dict[str, Any]]:
    return home.get("sessions/last")["controls"]["runs"]


def row(told: Told) -> str:
    """Its line of the table."""
    cells = [str(told.seed)]
    for name in ("slice", "rest", "all"):
        part = next(part for part in told.comparison["parts"] if part["name"] == name)
        cells.append(f"{part['runs'][0]['loss']:.3f}")
        cells += [f"{one['loss']:.3f} ({one['low']:+.3f} to {one['high']:+.3f})" for one in part["runs"][1:]]
    return f"| {' | '.join([*cells, *map(verdict, told.answers.values())])} |"


def verdict(answer: dict[str, Any]) -> str:
    """Whether it was taken, and why, without the figures."""
    if answer["status"] == "applied":
        return f"taken: {answer['result']['verdict'].partition(':')[0]}"
    return "not taken" + answer["reason"].removeprefix("the merged model is not taken").rpartition(": loss")[0]


def main() -> None:
    """Play all seeds, and print or write the table."""
    rows: list[str] = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder))
            try:
                told = play(home, seed)
            finally:
                home.close()
        assert told.baseline == told.plain
        rows.append(row(told))
        print(rows[-1], flush=True)
    if "--write" in sys.argv[1:]:
        head, mark, _ = DOCUMENT.read_text().partition("<!-- table -->\n")
        DOCUMENT.write_text(head + mark + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
