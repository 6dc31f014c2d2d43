"""Row 30: every optimizer of torch with every scheduler that goes with it, resumed in another process, bit for bit.

A pair is carried by its image alone, within this process (:mod:`tests.state.carrying`): at a step's hook, as a
checkpoint is taken, into a run of another seed. That the rest of a resume holds too, whole processes show in the full
tier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.state.carrying import Carrier
from tests.state.test_form import PAIRS, valid

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.state.trainings import Training


def main(seed):
    training = Training({optimizer!r}, {scheduler!r}, seed)
    hooked = register_optimizer_step_post_hook(__pause__)
    for number in range(6):
        training.step(number)
    hooked.remove()
    return training.everything()
"""


@pytest.mark.parametrize(("optimizer", "scheduler"), PAIRS)
def test_pairs_are_carried_bit_for_bit(
    optimizer: str, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not valid(optimizer, scheduler):
        pytest.skip("torch does not allow this pair")
    found = Carrier(SCRIPT.format(optimizer=optimizer, scheduler=scheduler), tmp_path, monkeypatch).carry()
    assert (found.obstacle, found.arrival, found.reason) == ("", 1, "")
    assert found.resumed == found.whole
    assert found.other != found.whole
