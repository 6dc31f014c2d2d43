"""A cell that ends while a thread of the notebook's trains: what that records is touched by nobody else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from tests.watching import watched

if TYPE_CHECKING:
    import pytest


def look(monkeypatch: pytest.MonkeyPatch, *, weakened: bool = False) -> tuple[list[int], int, int]:
    """Flush beside a thread between two of its steps, then after its end; who sent what it had, and both threads."""
    asked, stepped, go_on = threading.Event(), threading.Event(), threading.Event()
    parameter = torch.zeros(1, requires_grad=True)
    senders: list[int] = []

    def train() -> None:
        optimizer = torch.optim.SGD([parameter], 0.1)
        for event in (stepped, asked):
            (parameter * 2).sum().backward()
            optimizer.step()
            event.set()
            go_on.wait(10)

    with watched() as kept:
        recorder: Any = kept.session._recorder
        work_off = recorder.work_off

        def noted(**options: Any) -> None:
            senders.append(threading.get_ident())
            work_off(**options)

        monkeypatch.setattr(recorder, "work_off", noted)
        if weakened:
            monkeypatch.setattr(recorder, "is_busy_elsewhere", lambda: False)
        thread = threading.Thread(target=train)
        thread.start()
        other = thread.ident or 0
        assert stepped.wait(10)
        senders.clear()
        kept.session.flush()
        go_on.set()
        thread.join(10)
        kept.session.flush()
        seen = senders.copy()
    return seen, other, threading.get_ident()


def test_a_flush_is_left_to_the_thread_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, other, own = look(monkeypatch)
    assert seen == [other, own], "the thread at its next step; after its end, who asks"


def test_else_it_would_come_from_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _, own = look(monkeypatch, weakened=True)
    assert seen[0] == own


def test_values_logged_beside_a_training_wait_for_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    stepped, go_on = threading.Event(), threading.Event()
    parameter = torch.zeros(1, requires_grad=True)
    senders: set[int] = set()

    def train() -> None:
        (parameter * 2).sum().backward()
        stepped.set()
        go_on.wait(10)

    with watched() as kept:
        recorder: Any = kept.session._recorder
        work_off = recorder.work_off

        def noted(**options: Any) -> None:
            senders.add(threading.get_ident())
            work_off(**options)

        monkeypatch.setattr(recorder, "work_off", noted)
        thread = threading.Thread(target=train)
        thread.start()
        assert stepped.wait(10)
        recorder._sent = 0  # long ago
        kept.session.log({"value": 1.0})
        assert senders <= {thread.ident}
        go_on.set()
        thread.join(10)
        kept.session.log({"value": 2.0})
        assert threading.get_ident() in senders
    assert kept.metric("value") == [1.0, 2.0]
