"""Training dynamics, compared with plain sums over the raw records: whatever the order in which those arrive."""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import tempfile
from array import array
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onthefly.hub import presentations
from onthefly.hub.dynamics import ORDERS
from onthefly.hub.presentations import Follower
from onthefly.hub.store import Source, Store
from onthefly.protocol import IDENTITIES, PHASES, Records
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAN = math.nan
EXAMPLES = 300 if os.environ.get("ONTHEFLY_FULL") else 6


class Call(NamedTuple):
    """A backward call of one rank, and the samples in its batch."""

    run: str
    phase: str
    epoch: int
    backward: int
    samples: list[tuple[Any, float, float, float]]
    """Index or key (None: it has no identity), loss, confidence, margin."""


def frame(call: Call, identity: str) -> Records:
    """That call as an agent sends it."""
    named = [name for name, *_ in call.samples]
    keyed = identity == "key"
    keys = sorted({name for name in named if name is not None}) if keyed else []
    return records(
        call.backward, 1, len(named), run=call.run, epoch=array("i", [call.epoch]).tobytes(),
        phase=bytes([PHASES.index(call.phase)]), identity=bytes([IDENTITIES.index(identity)]),
        sample=array("q", [-1 if keyed or name is None else name for name in named]).tobytes(),
        key=array("i", [-1 if name is None else keys.index(name) for name in named]).tobytes() if keyed else b"",
        keys=keys, sample_loss=array("f", [row[1] for row in call.samples]).tobytes(),
        confidence=array("f", [row[2] for row in call.samples]).tobytes(),
        margin=array("f", [row[3] for row in call.samples]).tobytes(),
    )  # fmt: skip


def expected(calls: list[tuple[int, Call]], run: str, phase: str) -> dict[Any, dict[str, Any]]:
    """The dynamics by the definitions: each sample's rows as a list, and one look at each list."""
    histories: dict[Any, list[tuple[int, float, float, float]]] = defaultdict(list)
    for _, call in sorted(calls, key=lambda entry: (entry[1].backward, entry[0])):
        for name, loss, confidence, margin in call.samples:
            if (call.run, call.phase) == (run, phase) and name is not None:
                histories[name].append((call.epoch, loss, confidence, margin))
    return {name: summary(history) for name, history in histories.items()}


def summary(history: list[tuple[int, float, float, float]]) -> dict[str, Any]:
    """What is known of one sample."""
    losses = [loss for _, loss, _, _ in history if math.isfinite(loss)]
    confidences = [confidence for *_, confidence, _ in history if not math.isnan(confidence)]
    margins = [margin for *_, margin in history if not math.isnan(margin)]
    judged = [(epoch, margin > 0) for epoch, *_, margin in history if not math.isnan(margin)]
    return {
        "count": len(history),
        "epochs": len(list(itertools.groupby(epoch for epoch, *_ in history))),
        "loss_mean": statistics.fmean(losses) if losses else None,
        "loss_variance": statistics.pvariance(losses) if losses else None,
        "loss_last": history[-1][1],
        "loss_min": min(losses, default=None),
        "loss_max": max(losses, default=None),
        "forgetting": sum(a and not b for (_, a), (_, b) in zip(judged, judged[1:])) if judged else None,
        "learned": next((epoch for epoch, right in judged if right), None),
        "confidence": statistics.fmean(confidences) if confidences else None,
        "variability": statistics.pstdev(confidences) if confidences else None,
        "margin": statistics.fmean(margins) if margins else None,
    }


def compare(found: list[dict[str, Any]], wanted: dict[Any, dict[str, Any]]) -> None:
    """Each sample once, with the right numbers."""
    words = {"nan": NAN, "inf": math.inf, "-inf": -math.inf}
    by_name = {row["key"] if row["sample"] is None else row["sample"]: row for row in found}
    assert len(by_name) == len(found)
    assert by_name.keys() == wanted.keys()
    for name, measures in wanted.items():
        for measure, value in measures.items():
            got = by_name[name][measure]
            got = words.get(got, got) if isinstance(got, str) else got
            assert got == value or got == pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True), (name, measure)


def singles(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


def history(identity: str) -> st.SearchStrategy[list[tuple[int, Call]]]:
    """What some ranks did, by rank; the epoch goes on with the backward calls."""
    names = st.integers(0, 5) | st.just(2**40) if identity == "index" else st.sampled_from("abcdé")
    sample = st.tuples(
        names | st.none(), singles(-9, 9) | st.sampled_from([NAN, math.inf, -math.inf]),
        singles(0, 1) | st.just(NAN), singles(-9, 9) | st.sampled_from([NAN, 0.0]),
    )  # fmt: skip
    one = st.tuples(
        st.integers(0, 2), st.sampled_from(["baseline", "other"]), st.sampled_from(["train", "train", "valid"]),
        st.integers(1, 6), st.lists(sample, max_size=6),
    )  # fmt: skip
    return st.lists(one, max_size=30).map(numbered)


def numbered(drawn: list[tuple[int, str, str, int, list[Any]]]) -> list[tuple[int, Call]]:
    """Each rank counts its backward calls itself; the epoch is a third of that."""
    counts: dict[int, int] = defaultdict(int)
    calls: list[tuple[int, Call]] = []
    for rank, run, phase, ahead, samples in drawn:
        counts[rank] += ahead
        calls.append((rank, Call(run, phase, counts[rank] // 3, counts[rank], samples)))
    return calls


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presentations, "CHUNK", 5)
    monkeypatch.setattr(presentations, "WORTH_A_FILE", 3)


@pytest.mark.timeout(400)  # 105 s with full counts on an idle machine
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("identity", ["index", "key"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_equal_to_a_computation_from_the_raw_records(data: st.DataObject, identity: str) -> None:
    calls = data.draw(history(identity), "calls")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.duckdb"
        store = Store(path, "abcdefgh")
        kinds = itertools.product(("baseline", "other"), ("train", "valid"))
        followers = {kind: Follower(*kind, store.folder) for kind in kinds}
        sent: dict[int, int] = defaultdict(int)
        batch: list[Any] = []
        for place, (rank, call) in enumerate(calls):
            sent[rank] += 1
            batch.append((Source(rank, 1, sent[rank]), frame(call, identity)))
            if data.draw(st.booleans(), "resent"):
                batch.append(batch[-1])
            what = data.draw(st.sampled_from(["wait", "wait", "write", "look", "restart"]), "what")
            if what != "wait":
                store.write(batch)
                batch = batch[-2:] if data.draw(st.booleans(), "resent later") else []
            if what == "look":
                for (run, phase), follower in followers.items():
                    compare(look(store, follower), expected(calls[: place + 1], run, phase))
            elif what == "restart":
                store.close()
                store = Store(path, "abcdefgh")
                followers = {kind: Follower(*kind, store.folder) for kind in followers}
        store.write(batch)
        for (run, phase), follower in followers.items():
            wanted = expected(calls, run, phase)
            compare(look(store, follower), wanted)
            compare(look(store, Follower(run, phase)), wanted)
        store.close()


def look(store: Store, follower: Follower, order: str = "loss_mean", limit: int | None = None) -> list[dict[str, Any]]:
    """What the follower says now."""
    with store.reading() as cursor:
        return json.loads(follower.render(cursor, order, limit, "json"))


WORST: dict[str, Callable[[dict[str, Any]], float]] = {
    "loss_mean": lambda row: -row["loss_mean"],
    "loss_variance": lambda row: -row["loss_variance"],
    "loss_last": lambda row: -row["loss_last"],
    "loss_max": lambda row: -row["loss_max"],
    "forgetting": lambda row: -1000 if row["learned"] is None else -row["forgetting"],
    "confidence": lambda row: row["confidence"],
    "variability": lambda row: -row["variability"],
    "margin": lambda row: row["margin"],
}


@pytest.mark.parametrize("order", ORDERS)
def test_worst_first(tmp_path: Path, order: str) -> None:
    import random

    chance = random.Random(order)
    calls = [
        (0, Call("baseline", "train", number // 20, number, [
            (sample, chance.random(), chance.random(), chance.gauss(-1, 1)) for sample in chance.sample(range(200), 20)
        ])) for number in range(100)
    ]  # fmt: skip
    calls.append((0, Call("baseline", "train", 6, 100, [(999, 0.5, NAN, NAN)])))
    store = Store(tmp_path / "store.duckdb", "abcdefgh")
    store.write([(Source(0, 1, 1 + place), frame(call, "index")) for place, (_, call) in enumerate(calls)])
    follower = Follower("baseline", "train")
    rows = look(store, follower, order)
    if order in ("forgetting", "confidence", "variability", "margin"):
        assert rows.pop()["sample"] == 999, "what is not known comes last"
    assert [WORST[order](row) for row in rows] == sorted(WORST[order](row) for row in rows)
    assert len(rows) >= 200 - 1
    for limit in (0, 1, 7, 200, 1000):
        assert look(store, follower, order, limit)[:200] == rows[:limit][:200]
    store.close()


def test_a_loss_that_is_no_number_is_the_worst_last_loss(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.duckdb", "abcdefgh")
    for number, losses in enumerate([(1, 2, 3), (9, NAN, -math.inf)]):
        rows = [(sample, loss, NAN, NAN) for sample, loss in enumerate(losses)]
        store.write([(Source(0, 1, 1 + number), frame(Call("baseline", "train", 0, number, rows), "index"))])
    rows = look(store, Follower("baseline", "train"), "loss_last")
    assert [(row["sample"], row["loss_last"], row["loss_mean"], row["count"]) for row in rows] == [
        (2, "-inf", 3, 2), (1, "nan", 2, 2), (0, 9, 5, 2),
    ]  # fmt: skip
    store.close()


@pytest.mark.parametrize("identity", ["stream", "none"])
def test_rows_that_name_no_sample_count_for_none(tmp_path: Path, identity: str) -> None:
    store = Store(tmp_path / "store.duckdb", "abcdefgh")
    store.write([(Source(0, 1, 1), frame(Call("baseline", "train", 0, 0, [(1, 1.0, NAN, NAN)]), identity))])
    assert look(store, Follower("baseline", "train")) == []
    store.close()


def test_what_fails_half_way_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store.duckdb", "abcdefgh")
    follower = Follower("baseline", "train")
    store.write([(Source(0, 1, 1), records(0, 4, 3))])
    before = look(store, follower)
    store.write([(Source(0, 1, 2), records(4, 4, 3))])
    with monkeypatch.context() as patch:
        patch.setattr("onthefly.hub.dynamics._judge", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            look(store, follower)
    after = look(store, follower)
    assert [row["count"] for row in before] == [4] * 3
    assert [row["count"] for row in after] == [8] * 3
    store.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47980) as running:
        yield running


def test_ranks_over_the_wire_while_a_client_asks_and_after_a_restart(tmp_path: Path) -> None:
    calls = [
        (rank, Call("baseline", "train", number // 4, number, [
            ((3 * number + 5 * rank + place) % 7, number + place / 8, place / 4, 1.0 if (number + place) % 3 else -1.0)
            for place in range(4)
        ])) for rank in (1, 0) for number in range(12)
    ]  # fmt: skip
    wanted = expected(calls, "baseline", "train")
    with running_hub(tmp_path, 47980) as hub:
        with Agent(hub.file, hello(rank=0)) as zero, Agent(hub.file, hello(rank=1, pid=2**22 + 1)) as one:
            for place, (rank, call) in enumerate(calls):
                agent = (zero, one)[rank]
                agent.saved(agent.say(frame(call, "index")))
                if place % 5 == 0:
                    compare(hub.json("sessions/abcdefgh/dynamics"), expected(calls[: place + 1], "baseline", "train"))
            zero.state("ended")
            one.state("ended")
        compare(hub.json("sessions/abcdefgh/dynamics"), wanted)
    with running_hub(tmp_path, 47980) as again:
        compare(again.json("sessions/abcdefgh/dynamics"), wanted)


def test_formats_and_what_is_not_understood(hub: Running, tmp_path: Path) -> None:
    import duckdb

    with Agent(hub.file) as agent:
        agent.saved(agent.say(frame(Call("baseline", "train", 0, 0, [(4, 1.5, 0.5, 2.0)]), "index")))
        path = tmp_path / "dynamics.parquet"
        path.write_bytes(hub.request(path="/api/v1/sessions/abcdefgh/dynamics?format=parquet")[2])
        found = duckdb.connect().execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
        assert [column[:2] for column in found] == [
            ("run", "VARCHAR"), ("phase", "VARCHAR"), ("sample", "BIGINT"), ("key", "VARCHAR"), ("count", "INTEGER"),
            ("epochs", "INTEGER"), ("loss_mean", "DOUBLE"), ("loss_variance", "DOUBLE"), ("loss_last", "FLOAT"),
            ("loss_min", "FLOAT"), ("loss_max", "FLOAT"), ("forgetting", "INTEGER"), ("learned", "INTEGER"),
            ("confidence", "DOUBLE"), ("variability", "DOUBLE"), ("margin", "DOUBLE"),
        ]  # fmt: skip
        csv = hub.request(path="/api/v1/sessions/abcdefgh/dynamics?format=csv")[2].decode().splitlines()
        assert csv[1] == "baseline,train,4,,1,1,1.5,0.0,1.5,1.5,1.5,0,0,0.5,0.0,2.0"
        for query in ("order=best", "phase=x", "run=a'b", "limit=-1", "limit=x", "format=xls", "colour=red"):
            assert hub.request(path=f"/api/v1/sessions/abcdefgh/dynamics?{query}")[0] == 400, query
        agent.state("ended")


def test_the_run_that_trains_is_followed_while_records_arrive(
    hub: Running, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(presentations, "STRIDE", 100)
    followed: list[int] = []
    follow = Follower.follow

    def spy(self: Follower, cursor: Any) -> None:
        follow(self, cursor)
        followed.append(self.rows)

    monkeypatch.setattr(Follower, "follow", spy)
    with Agent(hub.file) as agent:
        agent.saved(agent.say(records(0, 9, 10)))
        agent.saved(agent.say(records(9, 9, 10)))
        wait_for("the follower", lambda: followed)
        agent.saved(agent.say(records(18, 30, 10)))
        wait_for("the follower again", lambda: followed[-1] == 480)
        assert followed[0] == 180
        agent.state("ended")
