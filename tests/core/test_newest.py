"""The newest values, out of the messages that are sent anyway."""

from __future__ import annotations

import math
from array import array

from onthefly.core.conditions import Condition
from onthefly.core.newest import MAX_VALUES, Newest, losses
from onthefly.protocol import PHASES, Metrics, Records


def records(*values: float, step: int = 0, phase: str = "train", reason: str = "") -> Records:
    """A block of backward calls without samples."""
    n, reasons = len(values), [reason] if reason else []
    return Records(
        run="baseline", backward=array("q", range(n)).tobytes(), step=array("q", range(step, step + n)).tobytes(),
        epoch=array("i", [3] * n).tobytes(), time=bytes(8 * n), loss=array("d", values).tobytes(), shared=bytes(8 * n),
        certificate=bytes(n), error=bytes(8 * n), reason=array("h", [0 if reason else -1] * n).tobytes(),
        phase=bytes([PHASES.index(phase)] * n), loader=array("h", [-1] * n).tobytes(), identity=bytes(n),
        count=bytes(4 * n), reasons=reasons, loaders=[], sample=b"", sample_loss=b"", valid=b"",
    )  # fmt: skip


def metrics(values: dict[str, list[float]], step: int = 0, *, complete: bool = False) -> Metrics:
    """Rows of one step each."""
    n = len(next(iter(values.values())))
    return Metrics(
        run="baseline", step=array("q", range(step, step + n)).tobytes(), epoch=array("i", [1] * n).tobytes(),
        time=bytes(8 * n), values={name: array("d", column).tobytes() for name, column in values.items()},
        complete=complete,
    )  # fmt: skip


def test_values_are_kept_while_somebody_listens() -> None:
    newest = Newest()
    newest.take(records(9.0))
    leave, too = newest.listen(["loss", "lr"]), newest.listen(["loss"])
    assert newest.get("loss") is None
    assert newest.step_of("loss") is None
    newest.take(records(1.0, 2.0, step=5))
    newest.take(metrics({"lr": [0.1, 0.2], "rss": [1.0, 2.0]}, step=7))
    assert (newest.get("loss"), newest.step_of("loss")) == (2.0, 6)
    assert (newest.get("lr"), newest.step_of("lr")) == (0.2, 8)
    assert newest.get("rss") is None
    assert newest.window("lr", 5) == [0.1, 0.2]
    assert newest.window("lr", 1) == [0.2]
    assert newest.window("lr", 0) == newest.window("nothing", 3) == []
    leave()
    leave()
    assert newest.get("lr") is None
    assert newest.get("loss") == 2.0
    too()
    assert newest.get("loss") is None


def test_validation_is_no_loss_and_nan_may_be_none() -> None:
    newest = Newest()
    newest.listen(["loss", "throughput", "mine"])
    newest.take(records(1.0))
    newest.take(records(7.0, phase="valid"))
    newest.take(records(math.nan, step=3, reason="the loss is not a single number"))
    assert newest.window("loss", 9) == [1.0]
    newest.take(records(math.nan, step=4))
    assert math.isnan(newest.window("loss", 9)[-1])
    newest.take(metrics({"throughput": [5.0, math.nan]}))
    newest.take(metrics({"mine": [5.0, math.nan]}, step=100, complete=True))
    assert newest.window("throughput", 9) == [5.0]
    assert math.isnan(newest.window("mine", 9)[-1])
    assert newest.get("step") == 4.0  # a script logs of any step
    assert [loss.known for loss in losses(records(math.nan, math.inf, reason="why"))] == [False, True]


def test_a_ring_is_bounded() -> None:
    newest = Newest()
    newest.listen(["loss"])
    for block in range(40):
        newest.take(records(*[float(block)] * 32))
    assert len(newest.window("loss", 10_000)) == MAX_VALUES
    assert newest.window("loss", 32) == [39.0] * 32


def test_conditions_ask_it() -> None:
    newest, condition = Newest(), Condition.parse("step > 3 and mean(loss, 4) < 2 and epoch == 3")
    newest.listen(condition.names)
    assert not condition.holds(newest.get, newest.window)
    newest.take(records(3.0, 3.0, 1.0, 1.0))
    assert not condition.holds(newest.get, newest.window)
    newest.take(records(1.0, 1.0, step=4))
    assert condition.holds(newest.get, newest.window)
