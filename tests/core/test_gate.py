"""The gate: pauses now and later, answers, boundaries of several ranks."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from onthefly.core.gate import Gate, Place
from onthefly.errors import Refused, Stop
from onthefly.protocol import Answer, Command
from tests.conftest import wait_for


class Desk:
    """A gate, and what it said."""

    def __init__(self, **changes: Any) -> None:
        self.answers: list[Answer] = []
        self.states: list[tuple[str, str, str]] = []
        self.asked: list[tuple[str, str]] = []
        self.step = self.count = 0
        self.gate = Gate(
            self.answers.append, lambda *state: self.states.append(state), passed=lambda: self.step,
            ask=lambda by, reason: self.asked.append((by, reason)), **changes,
        )  # fmt: skip

    def send(self, name: str, at: int = -1, **args: Any) -> None:
        self.count += 1
        n = self.count if at < 0 else 1
        self.gate.submit(Command(n=n, id=f"{name}{self.count}", name=name, args=args, by="ana", at=at))

    def train(self, steps: int) -> list[int]:
        """Pause points of that many steps; those at which the script was held until ``resume``, which is sent here."""
        held: list[int] = []
        for _ in range(steps):
            self.step += 1
            place = Place(self.step, self.step // 10, self.step, self.step)
            if self.gate.waiting and self.gate.due(place):
                over = threading.Event()
                watcher = threading.Thread(target=self._let_go, args=(held, over))
                watcher.start()
                try:
                    self.gate.serve(place)
                finally:
                    over.set()
                    watcher.join()
        return held

    def _let_go(self, held: list[int], over: threading.Event) -> None:
        while not over.wait(0.001):
            if self.gate.paused:
                held.append(self.step)
                self.send("resume")
                wait_for("it to go on", lambda: not self.gate.paused, 5)
                return

    def __call__(self) -> list[str]:
        return [answer.status for answer in self.answers]


def test_a_pause_at_a_step_an_epoch_and_after_some_steps() -> None:
    desk = Desk()
    desk.send("pause", step=7)
    assert desk.train(20) == [7]
    assert [state for state in desk.states if state[0] == "paused"] == [("paused", "ana", "step 7 was reached")]
    desk.send("pause", epoch=3)
    assert desk.train(15) == [30]
    desk.send("step", steps=4)
    assert desk.train(10) == [40]
    assert set(desk()) == {"applied"}
    assert not desk.gate.waiting


def test_what_is_behind_is_refused_and_changes_nothing() -> None:
    desk = Desk()
    desk.train(12)
    wrong: list[dict[str, Any]] = [{"step": 5}, {"epoch": 1}, {"stp": 5}, {"step": -1}, {"step": "x"}]
    for args in wrong:
        desk.send("pause", **args)
    desk.send("paus")
    desk.send("resume")
    assert desk.train(5) == []
    assert desk() == ["refused"] * 7
    assert all(answer.reason for answer in desk.answers)


def test_planned_pauses_are_forgotten_on_request() -> None:
    desk = Desk()
    desk.send("pause", step=5)
    desk.send("pause", step=6)
    desk.send("cancel")
    assert desk.train(10) == []
    assert desk.answers[-1].result == {"forgotten": ["step 5", "step 6"]}
    assert not desk.gate.waiting


def test_an_action_that_refuses_or_fails_is_answered_and_the_script_goes_on() -> None:
    desk = Desk()

    def refuse(given: Any, place: Place, by: str) -> None:
        raise Refused("not now", "later")

    def fail(given: Any, place: Place, by: str) -> None:
        raise ZeroDivisionError("1/0")

    desk.gate.register("clip", refuse)
    desk.gate.register("freeze", fail)
    desk.send("clip")
    desk.send("freeze", pattern="x")
    desk.train(1)
    assert desk() == ["refused", "failed"]
    assert (desk.answers[0].reason, desk.answers[0].remedy) == ("not now", "later")
    assert "ZeroDivisionError" in desk.answers[1].reason


def test_stop_is_raised_and_answered_once() -> None:
    desk = Desk()
    desk.send("stop")
    desk.send("resume")
    with pytest.raises(Stop):
        desk.train(1)
    desk.gate.close(Place(1, 0))
    assert desk() == ["applied", "refused"]
    desk.send("pause")
    assert desk.answers[-1].reason == "the script has ended"


def test_a_rank_does_not_pass_an_undecided_boundary() -> None:
    desk = Desk(ranks=lambda: 2)
    desk.train(3)
    assert desk.gate.propose(1, 5) == (True, 3)
    passed: list[int] = []

    def train() -> None:
        for _ in range(6):
            desk.train(1)
            passed.append(desk.step)

    thread = threading.Thread(target=train)
    thread.start()
    wait_for("the boundary", lambda: desk.step == 5)
    thread.join(0.2)
    assert thread.is_alive()
    assert passed == [4]
    assert desk.gate.propose(2, 4) == (False, 5), "it is past that"
    desk.gate.decide(2, go=False)
    thread.join(5)
    assert passed[-1] == 9


def test_ranks_do_what_was_agreed_upon_at_that_step() -> None:
    desk = Desk(ranks=lambda: 2)
    assert desk.gate.propose(1, 4)[0]
    desk.send("pause", at=4)
    desk.gate.decide(1, go=True)
    assert desk.train(8) == [4]
    assert desk.answers[0].step == 4
    desk.send("pause", epoch=2)
    assert desk.train(20) == []
    assert desk.asked == [("ana", "epoch 2 was reached")], "the others may see it at another step"


def test_a_hub_that_is_gone_holds_no_rank() -> None:
    desk = Desk(ranks=lambda: 2)
    desk.gate.propose(1, 1)
    thread = threading.Thread(target=desk.train, args=(1,))
    thread.start()
    wait_for("the boundary", lambda: desk.step == 1)
    desk.gate.decide(-1, go=False)
    thread.join(5)
    assert not thread.is_alive()


def test_what_is_not_decided_is_dropped_and_may_come_again() -> None:
    desk = Desk(ranks=lambda: 2)
    command = Command(n=7, id="p", name="pause", args={}, by="ana", at=4)
    assert desk.gate.propose(7, 4)[0]
    desk.gate.submit(command)
    desk.train(1)
    desk.gate.decide(7, go=False)
    assert desk.train(6) == []
    desk.gate.submit(Command(n=7, id="p", name="pause", args={}, by="ana"))
    assert desk.train(3) == [8]
    assert desk() == ["applied", "applied"]


def test_a_command_is_done_once_and_one_that_comes_late_is_refused() -> None:
    desk = Desk(ranks=lambda: 2)
    for _ in range(3):
        desk.gate.submit(Command(n=3, id="same", name="cancel", args={}, by="ana"))
    desk.train(2)
    assert desk() == ["applied"]
    desk.gate.submit(Command(n=4, id="late", name="pause", args={}, by="ana", at=1))
    assert desk.train(2) == []
    assert desk.answers[-1].reason == "step 1 is behind: 3 are finished"


def test_a_pause_of_all_ranks_forgets_the_plan_that_asked_for_it() -> None:
    desk = Desk(ranks=lambda: 2)
    desk.send("pause", epoch=1)
    desk.send("pause", epoch=9)
    desk.train(1)
    desk.send("pause", because="epoch 1 was reached")  # another rank has seen it first
    assert desk.train(1) == [2]
    assert [state for state in desk.states if state[0] == "paused"] == [("paused", "ana", "epoch 1 was reached")]
    desk.train(20)
    assert desk.asked == []
    assert [plan.text for plan in desk.gate.plans] == ["epoch 9"]


def test_a_rank_past_the_step_does_not_wait_for_a_decision() -> None:
    desk = Desk(ranks=lambda: 2)
    desk.train(5)
    assert desk.gate.propose(1, 5) == (False, 5)
    assert not desk.gate.due(Place(6, 0, 6, 6))
    assert desk.gate.propose(2, 6) == (True, 5)
    assert desk.gate.due(Place(6, 0, 6, 6))
