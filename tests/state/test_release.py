"""Memory given back at a pause and taken again, on storages of the host: they can be emptied as those of a device can.

No accelerator is here: that a device's memory is really free meanwhile is not shown by these.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from onthefly.errors import Refused
from onthefly.state.release import Released, here, tensors
from tests.actions.desk import desk

if TYPE_CHECKING:
    from pathlib import Path


class Training:
    """Tied parameters, a view, a buffer, gradients and the state of an optimizer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: Any = nn.Sequential(nn.Linear(40, 40), nn.BatchNorm1d(40), nn.Linear(40, 40))
        self.model[2].weight = self.model[0].weight
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)
        self.view = self.model[0].weight.detach()[3:7, ::2]
        self.half = torch.randn(100).half()
        self.loss: Any = None

    def step(self) -> None:
        """One step."""
        self.optimizer.zero_grad()
        self.loss = self.model(torch.randn(16, 40)).square().mean()
        self.loss.backward()
        self.optimizer.step()

    def bits(self) -> list[tuple[Any, ...]]:
        """All that there is: values, versions, places."""
        held = [*self.model.parameters(), *self.model.buffers(), self.view, self.half, self.loss]
        held += [p.grad for p in self.model.parameters() if p.grad is not None]
        held += [value for state in self.optimizer.state.values() for value in state.values()]
        return [
            (tensor.detach().clone().view(torch.uint8).tolist() if tensor.dim() else tensor.item(), tensor._version,
             tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.stride(), tensor.is_leaf)
            for tensor in held
        ]  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of the host is given back here, which NumPy and other tests' modules may look into: leave them out."""
    monkeypatch.setattr("onthefly.state.script.modules", lambda: iter([(__name__, globals())]))


@pytest.fixture
def training() -> Training:
    """One that has taken a step."""
    made = Training()
    made.step()
    return made


def test_everything_comes_back_as_it_was(training: Training) -> None:
    before, released = training.bits(), Released(("cpu",))
    given = released.release(here())
    storages = {one.untyped_storage()._cdata: one for one in tensors(here())}
    assert all(one.untyped_storage().nbytes() == 0 for one in storages.values())
    assert training.model[0].weight.untyped_storage().nbytes() == 0
    assert training.loss.untyped_storage().nbytes() == 0  # it has a graph
    weight = training.model[0].weight.numel()
    assert given == released.nbytes >= 4 * (4 * weight)  # its gradient, two moments; tied: once
    assert released.release(here()) == given  # again: nothing more
    released.take_back()
    assert not released
    assert training.bits() == before
    training.step()


def test_a_waiting_backward_runs_on_the_same_bits() -> None:
    w = nn.Parameter(torch.randn(50))
    loss = (w * w).sum()
    released = Released(("cpu",))
    released.release(here())
    released.take_back()
    loss.backward()
    assert w.grad is not None
    assert torch.equal(w.grad, 2 * w.detach())


def test_what_is_on_the_host_already_is_refused(training: Training) -> None:
    before = training.bits()
    with pytest.raises(Refused, match="in the host's memory already"):
        Released().release(here())
    assert training.bits() == before


def test_memory_that_another_has_is_asked_for_again(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    before, released = training.bits(), Released(("cpu",))
    given = released.release(here())
    real, left = torch.UntypedStorage.resize_, 5

    def scarce(storage: Any, size: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise torch.OutOfMemoryError("out of memory")
        return real(storage, size)

    with monkeypatch.context() as patch:
        patch.setattr(torch.UntypedStorage, "resize_", scarce)
        for _ in range(2):
            with pytest.raises(Refused, match="cannot be had again"):
                released.take_back()
        assert 0 < released.nbytes < given
    released.take_back()
    assert training.bits() == before


def test_a_host_without_room_changes_nothing(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    from onthefly.state import release

    before, count = training.bits(), 0
    real = release._host

    def scarce(nbytes: int) -> Any:
        nonlocal count
        count += 1
        if count > 3:
            raise RuntimeError("can't allocate memory")
        return real(nbytes)

    monkeypatch.setattr(release, "_host", scarce)
    with pytest.raises(Refused, match="no room"):
        Released(("cpu",)).release(here())
    assert training.bits() == before


def test_on_the_host_for_good(training: Training) -> None:
    released = Released(("cpu",))
    values = [tensor.detach().clone() for tensor in training.model.parameters()]
    released.release(here())
    released.stay()
    assert all(map(torch.equal, training.model.parameters(), values))
    assert training.model[0].weight is training.model[2].weight
    assert training.view._base is None or torch.equal(training.view, training.model[0].weight[3:7, ::2])
    training.step()


def test_who_may_read_them_meanwhile(training: Training) -> None:
    before, leave, there = training.bits(), threading.Event(), threading.Event()

    def reads() -> None:
        there.set()
        leave.wait()

    thread = threading.Thread(target=reads, name="reader")
    thread.start()
    there.wait()
    try:
        with pytest.raises(Refused, match="thread reader"):
            Released(("cpu",)).release(here())
    finally:
        leave.set()
        thread.join()
    old = signal.signal(signal.SIGUSR2, lambda number, frame: None)
    try:
        with pytest.raises(Refused, match="handler of SIGUSR2"):
            Released(("cpu",)).release(here())
    finally:
        signal.signal(signal.SIGUSR2, old)
    assert training.bits() == before


# Through the gate


def _empty(training: Training) -> bool:
    return training.model[0].weight.untyped_storage().nbytes() == 0


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("checkpoint", {}), ("set", {"name": "lr", "value": 0.1}), ("clip", {"norm": 1.0}), ("freeze", {"pattern": "*"}),
    ("diagnose", {}), ("rewind", {}), ("watch", {"alarm": "nonfinite-loss", "action": "off"}), ("unfreeze", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_a_command_brings_it_back_first(tmp_path: Path, name: str, args: dict[str, Any]) -> None:
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        commander.kept.session._control.released.kinds = ("cpu",)
        training, seen = Training(), list[bool]()
        training.step()
        gate = commander.kept.session._gate
        real = gate.actions[name]

        def look(given: Any, place: Any, by: str) -> Any:
            seen.append(_empty(training))
            try:
                return real(given, place, by)
            finally:
                seen.append(_empty(training))

        gate.actions[name] = look
        commander.send("pause", release=True)
        commander.send(name, **args)
        commander.send("resume")
        training.step()
        assert seen == [True, False]
        assert commander.answers()[0].result["released"] > 0
        assert commander.answers()[-1].status == "applied"
        training.step()


def test_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    ends: list[Any] = []
    again: list[tuple[str, dict[str, Any]]] = [("pause", {"release": True}), ("keep", {"every": 0})]
    commands: dict[int, list[tuple[str, dict[str, Any]]]] = {
        2: [*again, ("resume", {})],
        4: [*again, ("step", {})],
        5: [("resume", {})],
    }
    for release in (False, True):
        with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
            commander.kept.session._control.released.kinds = ("cpu",)
            training = Training()
            for number in range(6):
                for name, args in commands.get(number, ()) if release else ():
                    commander.send(name, **args)
                training.step()
            ends.append([row[0] for row in training.bits()])
            assert all(answer.status == "applied" for answer in commander.answers())
    assert ends[0] == ends[1]


def test_refused_it_runs_on(tmp_path: Path) -> None:
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        training = Training()
        commander.send("pause", release=True)
        training.step()
        commander.send("pause", release=True, step=100)
        training.step()
        reasons = [answer.reason for answer in commander.answers()]
        assert "everything is in the host's memory already" in reasons[0]
        assert "planned" in reasons[1]
        assert commander.kept.states()[-1] == "running"


def test_without_memory_it_stays_paused_until_there_is_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        control = commander.kept.session._control
        control.released.kinds = ("cpu",)
        training, failing = Training(), True
        real = control.released.take_back

        def take_back() -> None:
            nonlocal failing
            if control.released and failing:
                failing = False
                raise Refused("cannot be had again")
            real()

        monkeypatch.setattr(control.released, "take_back", take_back)
        commander.send("pause", release=True)
        commander.send("resume")
        commander.send("resume")
        training.step()
        assert [answer.status for answer in commander.answers()] == ["applied", "refused", "applied"]
        assert not _empty(training)
        states = [(m.state, m.reason) for m in commander.kept.messages if type(m).__name__ == "StateChanged"]
        assert ("paused", "cannot be had again") in states


@pytest.mark.parametrize("room", [True, False])
def test_an_interrupt_finds_the_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool) -> None:
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path)) as commander:
        control = commander.kept.session._control
        control.released.kinds = ("cpu",)
        training = Training()
        training.step()
        if not room:

            def none_left() -> None:
                raise Refused("cannot be had again")

            monkeypatch.setattr(control.released, "take_back", none_left)
        commander.send("pause", release=True)
        interrupt = signal.pthread_kill, (threading.main_thread().ident or 0, signal.SIGINT)
        # Twice, since one that comes within a callback of the garbage collector's is lost.
        timers = [threading.Timer(seconds, *interrupt) for seconds in (0.2, 8.0)]
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            training.step()
        for timer in timers:
            timer.cancel()
            timer.join()
        assert not _empty(training)
        assert not control.released
        monkeypatch.undo()
        assert all(p.isfinite().all() for p in training.model.parameters())
        training.step()


def test_a_signal_saves_with_the_tensors_there(tmp_path: Path) -> None:
    old = signal.getsignal(signal.SIGUSR1)
    with desk(ONTHEFLY_DATA_DIR=str(tmp_path), ONTHEFLY_SAVE_ON="SIGUSR1") as commander:
        control = commander.kept.session._control
        control.released.kinds = ("cpu",)
        training = Training()
        training.step()
        commander.send("pause", release=True)
        training.optimizer.zero_grad()
        signal.raise_signal(signal.SIGUSR1)
        commander.send("resume")
        training.step()
        assert [row.why for row in control.checkpoints.rows()] == ["signal"]
    assert signal.getsignal(signal.SIGUSR1) == old
