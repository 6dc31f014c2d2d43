"""Runs side by side: against sums over rows that the test has made itself, and refused wherever they cannot be."""

from __future__ import annotations

import json
import math
import time
from array import array
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
import numpy as np
import pytest

from onthefly.hub import verdicts
from onthefly.hub.paired import MOST_DRAWN, intervals
from onthefly.protocol import Branch, Compared, ComparedPart, Comparison, Described, Evaluated, EvaluationInfo, Examined
from tests.hub.agent import Agent, hello, records
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onthefly.hub.columns import Array

COUNT, CLASSES = 600, 3
DRAWN = np.random.default_rng(7)
LOSS = DRAWN.gamma(1.0, 1.0, COUNT).astype(np.float32)
BETTER = (LOSS * 0.8).astype(np.float32)
"""Under fork1: lower everywhere."""
TRADED = np.where(np.arange(COUNT) < 100, LOSS - 0.5, LOSS + 0.3).astype(np.float32)
"""Under fork2: better on the first hundred, worse on the others."""
TARGET = np.arange(COUNT) % CLASSES
TIMES = iter(range(1, 1000))


def info(run: str, label: str, **more: Any) -> EvaluationInfo:
    given: dict[str, Any] = {
        "kind": "test", "label": label, "run": run, "step": 7, "epoch": 1, "loader": "loader1", "mode": "eval",
        "by": "ana", "began": float(next(TIMES)), "seconds": 2.0, "count": COUNT, "how": "recipe, reproduced 3 of 3",
        "result": {"loss": 1.0, "accuracy": 0.5},
    }  # fmt: skip
    return EvaluationInfo(**{**given, **more})


def tell(agent: Agent, run: str, label: str, loss: Array, **more: Any) -> None:
    """Tell of one: its rows, and what came of it."""
    told = {name: more.pop(name) for name in ("mode", "partial", "reason", "checkpoint", "result", "kind", "step")
            if name in more}  # fmt: skip
    count = len(loss)
    loader = more.pop("loader", "loader1")
    sample = more.pop("sample", np.arange(count))
    given: dict[str, Any] = {
        "run": run, "evaluation": label, "kind": told.get("kind", "test"), "step": 7, "epoch": 1, "backward": 8,
        "loader": loader, "time": time.time(), "first": 0, "sample": array("q", sample.tolist()).tobytes(),
        "loss": np.asarray(loss, np.float32).tobytes(), "valid": array("i", [1] * count).tobytes(),
        "certificate": bytes(count), "identity": bytes(count),
    }  # fmt: skip
    if "target" in more:
        given["target"] = np.asarray(more.pop("target"), np.float64).tobytes()
        given["predicted"] = np.asarray(more.pop("predicted"), np.float64).tobytes()
    agent.say(Examined(**{**given, **more}))
    agent.say(Evaluated(evaluation=info(run, label, loader=loader, **told)))


def labelled(share: int) -> dict[str, Any]:
    """Targets, and predictions of which every so many-th is wrong."""
    return {"target": TARGET, "predicted": np.where(np.arange(COUNT) % share == 0, (TARGET + 1) % CLASSES, TARGET)}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Agent]]:
    with running_hub(tmp_path_factory.mktemp("comparison"), 47940) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.state("paused")
        agent.say(records(0, 1, 10))
        for name, samples in (("fork1", 0), ("fork2", 5)):
            fork = Branch(run=name, parent="baseline", step=1, kind="fork", samples=samples, selection="worst=100")
            agent.say(Described(name="n", project="", run=name, branch=fork))
        agent.say(records(1, 1, 5, run="fork2"))
        tell(agent, "baseline", "test_1", LOSS, **labelled(4))
        tell(agent, "fork1", "test_2", BETTER[::-1], sample=np.arange(COUNT)[::-1],
                **{name: column[::-1] for name, column in labelled(5).items()})  # fmt: skip
        tell(agent, "fork2", "test_3", TRADED, **labelled(2))
        agent.saved(agent.seq)
        yield hub, agent


def ask(hub: Running, runs: str, **given: str) -> Any:
    status, _, body = hub.request(path=f"/api/v1/sessions/last/comparison?{urlencode({'runs': runs, **given})}")
    return json.loads(body) if status == 200 else (status, json.loads(body)["error"])


def parts_of(found: Any) -> dict[str, Any]:
    msgspec.convert(found, Comparison)
    return {part["name"]: part for part in found["parts"]}


def by_hand(first: Array, other: Array) -> dict[str, Any]:
    """What must be said of a run against the first, with draws of the test's own."""
    first, other = first.astype(np.float64), other.astype(np.float64)
    both = np.isfinite(first) & np.isfinite(other)
    differences = (other - first)[both]
    means = [DRAWN.choice(differences, len(differences)).mean() for _ in range(2000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"loss": other[np.isfinite(other)].mean(), "difference": differences.mean(), "low": low, "high": high,
            "wins": sum(b < a or (math.isnan(a) and not math.isnan(b)) for a, b in zip(first, other)),
            "losses": sum(b > a or (math.isnan(b) and not math.isnan(a)) for a, b in zip(first, other))}  # fmt: skip


def check(one: dict[str, Any], first: Array, other: Array) -> None:
    wanted = by_hand(first, other)
    for name in ("loss", "difference"):
        assert one[name] == pytest.approx(wanted[name], abs=1e-9), name
    assert (one["wins"], one["losses"]) == (wanted["wins"], wanted["losses"])
    width = wanted["high"] - wanted["low"]
    assert one["low"] == pytest.approx(wanted["low"], abs=0.15 * width)
    assert one["high"] == pytest.approx(wanted["high"], abs=0.15 * width)


def test_every_part_is_what_its_rows_say(played: tuple[Running, Agent]) -> None:
    hub, _ = played
    found = ask(hub, "baseline,fork1,fork2", loader="loader1", select="sample=:99")
    parts = parts_of(found)
    assert [(one["run"], one["evaluation"], one["step"]) for one in found["runs"]] == [
        ("baseline", "test_1", 7), ("fork1", "test_2", 7), ("fork2", "test_3", 7),
    ]  # fmt: skip
    inside = np.arange(COUNT) < 100
    masks: dict[str, Array] = {"all": np.ones(COUNT, bool), "slice": inside, "rest": ~inside,
             **{f"class {number}": number == TARGET for number in range(CLASSES)}}  # fmt: skip
    assert list(parts) == list(masks)
    for name, mask in masks.items():
        part = parts[name]
        assert part["count"] == mask.sum()
        first = part["runs"][0]
        assert first["loss"] == pytest.approx(LOSS[mask].astype(np.float64).mean())
        assert (first["difference"], first["low"], first["wins"]) == (None, None, 0)
        for place, loss in ((1, BETTER), (2, TRADED)):
            check(part["runs"][place], LOSS[mask], loss[mask])
        shares = [(labelled(number)["predicted"] == TARGET)[mask].mean() for number in (4, 5, 2)]
        assert [one["accuracy"] for one in part["runs"]] == pytest.approx(shares)
    assert found["verdict"].startswith("fork1 against baseline: better (")
    assert "fork2 against baseline: better (-0.5, -0.5 to -0.5) on the slice but worse (+0.3" in found["verdict"]
    assert "one at the cost of the other" in found["verdict"]


def test_no_loader_is_the_one_all_were_tested_on_newest(played: tuple[Running, Agent]) -> None:
    hub, _ = played
    found = ask(hub, "baseline,fork1")
    assert (found["loader"], found["select"]) == ("loader1", "")
    assert list(parts_of(found)) == ["all", "class 0", "class 1", "class 2"]
    assert found == ask(hub, "baseline,fork1"), "the same draws every time"


def test_the_slice_of_a_fork(played: tuple[Running, Agent]) -> None:
    """On another loader its words; on its own the samples that it was trained on, whatever is the worst by now."""
    hub, agent = played
    found = ask(hub, "baseline,fork2", select="fork2")
    worst = np.sort(np.argsort(-LOSS, kind="stable")[:100])
    assert found["select"] == "worst=100"
    check(parts_of(found)["slice"]["runs"][1], LOSS[worst], TRADED[worst])
    for run, label, loss in (("baseline", "test_4", LOSS[:20]), ("fork2", "test_5", TRADED[:20])):
        tell(agent, run, label, loss, loader="loader0")
    agent.saved(agent.seq)
    found = ask(hub, "baseline,fork2", loader="loader0", select="fork2")
    assert found["select"] == "the samples that fork2 was trained on"
    assert {name: part["count"] for name, part in parts_of(found).items()} == {"all": 20, "slice": 5, "rest": 15}
    assert "too few samples to tell (5) on the slice" in found["verdict"]
    for name, words in (("hard", "sample=1,2"), ("long", "sample=1,2,... (900 of them)"), ("bare", "")):
        fork = Branch(run=name, parent="baseline", step=1, kind="fork", samples=9, selection=words, loader="loader0")
        agent.say(Described(name="n", project="", run="fork2", branch=fork))
    agent.saved(agent.seq)
    for name, reason in (
        ("fork1", "trained on all samples"),
        ("hard", "mean nothing on loader1"),
        ("long", "not told in words"),
        ("bare", "mean nothing on loader1"),
        ("merge1", "is no fork of this session"),
    ):
        status, error = ask(hub, "baseline,fork2", loader="loader1", select=name)
        assert (status, reason in error["message"]) == (409, True), error


def test_what_cannot_be_compared_is_refused(played: tuple[Running, Agent]) -> None:
    hub, _ = played
    for runs, given, status, reason in (
        ("baseline", {}, 400, "from 2 to 16 different runs"), ("", {}, 400, "no name of a run"),
        ("baseline,baseline", {}, 400, "different runs"), ("baseline,a b", {}, 400, "no name of a run"),
        (",".join(f"r{number}" for number in range(17)), {}, 400, "from 2 to 16"),
        ("baseline,fork9", {}, 409, "there is no run fork9"),
        ("baseline,fork1", {"loader": "loader9"}, 409, "baseline was never tested on loader9"),
        ("baseline,fork1", {"select": "size=3"}, 400, "is no term of a selection"),
        ("baseline,fork1", {"select": "loss=99:"}, 409, "no sample is meant by 'loss=99:'"),
    ):  # fmt: skip
        found = ask(hub, runs, **given)
        assert found[0] == status, (runs, found)
        assert reason in found[1]["message"], found
        assert found[1]["remedy"], found


@pytest.fixture
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Agent]]:
    with running_hub(tmp_path_factory.mktemp("alone"), 47941) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.state("paused")
        yield hub, agent


def test_missing_samples_repeated_ones_and_ties(alone: tuple[Running, Agent]) -> None:
    hub, agent = alone
    tell(agent, "baseline", "test_1", np.array([9, 1, 2, 3, 4, 5]), sample=np.array([0, 0, 1, 2, 3, 7]))
    tell(agent, "fork1", "test_2", np.array([2, 3, 3, 8, 1]), sample=np.array([1, 2, 3, 9, 0]),
            certificate=bytes([0, 0, 0, 0, 0]))  # fmt: skip
    agent.saved(agent.seq)
    (part,) = parts_of(ask(hub, "baseline,fork1")).values()
    assert part["count"] == 4, "0, 1, 2, 3; of 0 its newest row"
    other = part["runs"][1]
    assert (part["runs"][0]["loss"], other["loss"]) == (2.5, 2.25)
    assert (other["difference"], other["wins"], other["losses"]) == (-0.25, 1, 0)
    tell(agent, "fork2", "test_3", np.array([5.0]), sample=np.array([99]))
    tell(agent, "fork3", "test_4", np.array([5.0, 1.0]), sample=np.array([1, 2]), certificate=bytes([0, 2]))
    agent.saved(agent.seq)
    assert "no sample in common" in ask(hub, "baseline,fork2")[1]["message"]
    part = parts_of(ask(hub, "baseline,fork3"))["all"]
    assert part["count"] == 1, "the other has no loss of its own"
    assert part["runs"][1]["low"] is None


def test_losses_that_are_not_finite(alone: tuple[Running, Agent]) -> None:
    hub, agent = alone
    broken = BETTER.copy()
    broken[:3], broken[3] = np.nan, np.inf
    tell(agent, "baseline", "test_1", LOSS)
    tell(agent, "fork1", "test_2", broken)
    tell(agent, "fork2", "test_3", np.full(COUNT, np.nan))
    agent.saved(agent.seq)
    found = ask(hub, "baseline,fork1,fork2")
    part = parts_of(found)["all"]
    check(part["runs"][1], LOSS, broken)
    assert part["runs"][1]["losses"] == 4, "all others are lower"
    lost = part["runs"][2]
    assert (lost["loss"], lost["difference"], lost["low"], lost["losses"]) == (None, None, None, COUNT)
    assert "no verdict on fork1 against baseline: 4 of fork1 losses are not finite" in found["verdict"]


def test_by_key_by_position_or_not_at_all(alone: tuple[Running, Agent]) -> None:
    hub, agent = alone
    none, keys = np.full(4, -1), ["d", "a", "c", "b"]
    tell(agent, "baseline", "test_1", np.array([4, 1, 3, 2]), sample=none, keys=keys)
    tell(agent, "fork1", "test_2", np.array([1, 2, 3, 5]), sample=none, keys=sorted(keys))
    tell(agent, "baseline", "test_3", np.array([1, 2, 3, 4]), sample=none, loader="x")
    tell(agent, "fork1", "test_4", np.array([1, 2, 3, 6]), sample=none, loader="x")
    tell(agent, "fork2", "test_5", np.array([1, 2, 3]), sample=none[:3], loader="x")
    classes = {"target": [0, 1, 2, 0], "predicted": [0] * 4}
    tell(agent, "baseline", "test_6", np.array([1, 2, 3, 4]), sample=none, loader="y", **classes)
    tell(agent, "fork1", "test_7", np.array([1, 2, 3, 4]), sample=none, loader="y", **{**classes, "target": [1] * 4})
    agent.saved(agent.seq)
    part = parts_of(ask(hub, "baseline,fork1", loader="loader1"))["all"]
    assert (part["count"], part["runs"][1]["difference"], part["runs"][1]["losses"]) == (4, 0.25, 1)
    part = parts_of(ask(hub, "baseline,fork1", loader="x"))["all"]
    assert (part["count"], part["runs"][1]["difference"]) == (4, 0.5)
    assert "not equally many" in ask(hub, "baseline,fork2", loader="x")[1]["message"]
    assert "in another order" in ask(hub, "baseline,fork1", loader="y")[1]["message"]


def test_which_test_counts(alone: tuple[Running, Agent]) -> None:
    """The newest with rows, of the run's own weights, in evaluation mode; none of it where that is partial."""
    hub, agent = alone
    tell(agent, "baseline", "test_1", LOSS)
    tell(agent, "fork1", "test_2", LOSS)
    tell(agent, "fork1", "test_3", BETTER)
    for label, more in (("test_4", {"mode": "train"}), ("test_5", {"checkpoint": "c"}), ("scan_1", {"kind": "scan"})):
        tell(agent, "fork1", label, TRADED, **more)
    agent.say(Evaluated(evaluation=info("fork1", "test_6", count=0, partial=True, reason="no step was seen")))
    agent.saved(agent.seq)
    assert [one["evaluation"] for one in ask(hub, "baseline,fork1")["runs"]] == ["test_1", "test_3"]
    assert list(parts_of(ask(hub, "baseline,fork1"))) == ["all"], "no labels: no classes"
    assert "fork1 against baseline: better" in ask(hub, "baseline,fork1")["verdict"]
    tell(agent, "fork1", "test_7", BETTER[:10], partial=True, reason="cancelled")
    tell(agent, "fork2", "test_8", BETTER, loader="loader2")
    agent.say(records(0, 1, 2, run="fork3"))
    agent.saved(agent.seq)
    assert ask(hub, "baseline,fork1")[1]["message"] == "test_7 of fork1 is partial: cancelled"
    assert ask(hub, "baseline,fork2")[1]["message"] == "there is no loader that baseline, fork2 were all tested on"
    assert ask(hub, "baseline,fork3")[1]["message"] == "fork3 was never tested"


def test_numbers_for_targets_are_no_classes(alone: tuple[Running, Agent]) -> None:
    hub, agent = alone
    for run, label in (("baseline", "test_1"), ("fork1", "test_2")):
        tell(agent, run, label, LOSS, target=LOSS, predicted=LOSS, result={"loss": 1.0})
    agent.saved(agent.seq)
    found = ask(hub, "baseline,fork1")
    assert list(parts_of(found)) == ["all"]
    assert parts_of(found)["all"]["runs"][1]["accuracy"] is None
    assert found["verdict"] == "fork1 against baseline: the same losses"


def test_many_classes_are_the_most_frequent(alone: tuple[Running, Agent]) -> None:
    hub, agent = alone
    target = np.concatenate([np.arange(150), np.arange(50, 150)])
    for run, label in (("baseline", "test_1"), ("fork1", "test_2")):
        tell(agent, run, label, np.arange(250.0), target=target, predicted=target)
    agent.saved(agent.seq)
    assert list(parts_of(ask(hub, "baseline,fork1")))[1:] == [f"class {n}" for n in range(50, 150)]


def test_intervals_are_the_bootstraps_and_of_many_samples_the_normal() -> None:
    many = DRAWN.normal(0.1, 2.0, MOST_DRAWN + 1)
    few = DRAWN.exponential(1.0, 300) - 1.1
    (low, high), small, none = intervals([many, few, many[:1]])  # type: ignore[misc]
    half = 1.96 * many.std(ddof=1) / len(many) ** 0.5
    assert (low, high) == pytest.approx((many.mean() - half, many.mean() + half), rel=1e-4)
    means = [DRAWN.choice(few, len(few)).mean() for _ in range(5000)]
    assert small == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.02)
    assert none is None
    drawn, normal = intervals([few]), intervals([few], most=100)
    assert drawn[0] == pytest.approx(normal[0], abs=0.02), "the one approaches the other"
    assert intervals([few, few + 1])[1] == pytest.approx([end + 1 for end in drawn[0] or ()]), "the same draws"


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for _ in range(200):
        ((low, high),) = [one for one in intervals([DRAWN.normal(0.3, 1.0, 60)]) if one]
        held += low <= 0.3 <= high
    assert 0.88 * 200 <= held <= 0.99 * 200


def test_verdicts_say_no_more_than_the_intervals() -> None:
    def part(name: str, low: float, high: float, count: int = 50) -> ComparedPart:
        middle = (low + high) / 2
        return ComparedPart(name=name, count=count, runs=[
            Compared(loss=1.0), Compared(loss=1.0 + middle, difference=middle, low=low, high=high),
        ])  # fmt: skip

    def told(*parts: ComparedPart) -> str:
        return verdicts.told(["baseline", "fork1"], parts, [0, 0])

    better, worse, neither = (-0.3, -0.1), (0.1, 0.3), (-0.1, 0.1)
    assert told(part("all", *neither)) == "fork1 against baseline: no clear difference (+0, -0.1 to +0.1)"
    assert told(part("all", *worse)).startswith("fork1 against baseline: worse (+0.2")
    assert told(part("all", *better, count=9)) == "fork1 against baseline: too few samples to tell (9)"
    said = told(part("all", *neither), part("slice", *better), part("rest", *neither))
    assert "better (-0.2, -0.3 to -0.1) on the slice and no clear difference" in said
    assert "cost" not in said
    said = told(part("all", *neither), part("slice", *better), part("rest", *worse))
    assert "on the slice but worse" in said
    classes = [part(f"class {number}", *(better if number else worse)) for number in range(8)]
    assert told(part("all", *neither), *classes).endswith(
        "by class better on class 1, 2, 3, 4, 5 and 2 more and worse on class 0"
    )
