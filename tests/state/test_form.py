"""The form of live state: through the disk and back bit for bit, and refused as a whole where it does not fit."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from onthefly.bundle.refusals import Damaged
from onthefly.errors import Refused
from onthefly.state.export import export_pt, export_safetensors
from onthefly.state.files import read_form, write_form
from onthefly.state.form import Form
from onthefly.state.objects import find
from tests.state.trainings import OPTIMIZERS, PLACE, SCHEDULERS, Training, bits

if TYPE_CHECKING:
    from pathlib import Path


def valid(optimizer: str, scheduler: str) -> bool:
    """Whether torch itself allows the pair."""
    try:
        Training(optimizer, scheduler)
    except (ValueError, KeyError, RuntimeError, AssertionError):
        return False
    return True


FULL = bool(os.environ.get("ONTHEFLY_FULL"))
SOME = [(list(OPTIMIZERS)[i % len(OPTIMIZERS)], scheduler) for i, scheduler in enumerate(SCHEDULERS)]
PAIRS = [(optimizer, scheduler) for optimizer in OPTIMIZERS for scheduler in SCHEDULERS] if FULL else SOME


@pytest.mark.parametrize(("optimizer", "scheduler"), PAIRS)
def test_pairs_go_on_bit_for_bit(tmp_path: Path, optimizer: str, scheduler: str) -> None:
    """Both in the objects that went on meanwhile, and in fresh ones of another seed."""
    if not valid(optimizer, scheduler):
        pytest.skip("torch does not allow this pair")
    plain = Training(optimizer, scheduler)
    for number in range(6):
        plain.step(number)
    watched = Training(optimizer, scheduler)
    for number in range(3):
        watched.step(number)
    path = write_form(watched.form(), tmp_path, "baseline-3").path
    losses = list(watched.losses)
    for number in range(3, 6):
        watched.step(number)
    assert watched.everything() == plain.everything(), "taking a checkpoint changed the training"
    fresh = Training(optimizer, scheduler, seed=1)
    for training in (watched, fresh):
        form = read_form(path)
        form.apply(training.objects())
        torch.set_rng_state(form.random["torch"])
        training.losses = list(losses)
        for number in range(3, 6):
            training.step(number)
        assert training.everything() == plain.everything()


def test_the_form_is_a_copy() -> None:
    training = Training("Adam", "StepLR")
    training.step(0)
    before = training.everything()[1][:3]
    form = training.form()
    for number in range(1, 4):
        training.step(number)
    form.apply(training.objects())
    training.objects()
    assert training.everything()[1][:3] == before
    for number in range(1, 4):  # what was applied shares nothing with the form
        training.step(number)
    form.apply(training.objects())
    assert training.everything()[1][:3] == before


def changed(training: Training, how: str) -> Any:
    """What is applied to after a change of structure."""
    roots: dict[str, Any] = {"self": training}
    if how == "shape":
        next(training.model.parameters()).data = torch.ones(8, 5)
    elif how == "dtype":
        next(training.model.parameters()).data = torch.ones(8, 4, dtype=torch.float64)
    elif how == "name":
        training.model.add_module("more", nn.Linear(1, 1))
    elif how == "gone":
        training.model[1].register_buffer("running_var", None)
    elif how == "optimizer":
        training.optimizer = torch.optim.SGD(training.model.parameters(), 0.1)
        training.scheduler.optimizer = training.optimizer
    elif how == "groups":
        training.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "initial_lr": 0.1})
    elif how == "parameters":
        del training.optimizer.state[training.optimizer.param_groups[0]["params"].pop()]
    elif how == "another":
        roots["extra"] = nn.Linear(1, 1)
    return find(roots)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("shape", r"training\.model\.0\.weight has the shape \[8, 4\] in it and \[8, 5\] now"),
        ("dtype", "is torch.float32 in it and torch.float64 now"),
        ("name", "more.weight is not in it"),
        ("gone", "1.running_var is not there now"),
        ("optimizer", "was a torch.optim.adam.Adam and is a torch.optim.sgd.SGD"),
        ("groups", "(1 parameter groups in it and 2 now|is not in it)"),
        ("parameters", "6 parameters in it and 5 now"),
        ("another", r"extra \(torch.nn.modules.linear.Linear\) is not in it"),
    ],
)
def test_what_does_not_fit_is_refused_untouched(how: str, said: str) -> None:
    training = Training("Adam", "StepLR")
    training.step(0)
    form = training.form()
    training.step(1)
    objects = changed(training, how)
    before = training.everything()
    with pytest.raises(Refused, match=said) as caught:
        form.apply(objects)
    assert caught.value.remedy
    assert training.everything() == before


def test_an_object_that_does_not_take_its_state_leaves_all_as_it_was() -> None:
    class Sampler:
        """The script's own; counts what it was given."""

        def __init__(self, fails: bool = False) -> None:
            self.position, self.fails = 0, fails

        def state_dict(self) -> dict[str, Any]:
            return {"position": self.position, "order": np.arange(3)}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.position = state["position"]
            if self.fails:
                self.fails = False
                raise KeyError("not mine")

    training, first, second = Training("Adam", "StepLR"), Sampler(), Sampler(fails=True)
    roots: Any = {"self": training, "first": first, "second": second}
    form = Form.of(find(roots), PLACE)
    training.step(0)
    first.position = second.position = 5
    before = training.everything()
    with pytest.raises(Refused, match="second does not take its state: KeyError"):
        form.apply(find(roots))
    assert (training.everything(), first.position, second.position) == (before, 5, 5)
    form.apply(find(roots))
    assert (first.position, second.position) == (0, 0)


def test_functions_are_left_out_and_named(tmp_path: Path) -> None:
    training = Training("SGD", "LambdaLR")
    training.scheduler.note = lambda: 1
    training.scheduler.thing = Training
    training.scheduler.object = object()
    form = read_form(write_form(training.form(), tmp_path, "a").path)
    assert [text.partition("training.")[2] for text in form.left_out] == [
        "scheduler.lr_lambdas[0]: a function", "scheduler.note: a function", "scheduler.thing: a type",
        "scheduler.object: an object",
    ]  # fmt: skip
    note = training.scheduler.note
    training.scheduler.last_epoch = 9
    form.apply(training.objects())
    assert (training.scheduler.last_epoch, training.scheduler.note) == (0, note)


def test_frozen_and_evaluating_modules_are_so_again() -> None:
    training = Training("SGD", "StepLR")
    training.model[1].eval()
    training.model[0].weight.requires_grad_(False)
    form = training.form()
    training.model.train()
    training.model.requires_grad_(True)
    form.apply(training.objects())
    assert [m.training for m in training.model] == [True, False, True, True, True]
    assert [p.requires_grad for p in training.model.parameters()] == [False, True, True, True, True, True]


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(64, 64, bias=False), "b": nn.Linear(64, 64, bias=False)})
    model["b"].weight = model["a"].weight
    form = Form.of(find({"model": model}), PLACE)
    assert form.nbytes == 64 * 64 * 4
    form = read_form(write_form(form, tmp_path, "a").path)
    state = form.sections["modules"]["model"]
    assert state["a.weight"] is state["b.weight"]
    form.apply(find({"model": model}))
    assert model["a"].weight is model["b"].weight


def test_a_scaler_between_step_and_update() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    roots: Any = {"model": model, "optimizer": optimizer, "scaler": scaler}

    def step() -> Form:
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(1, 2)).sum()).backward()
        scaler.step(optimizer)
        return Form.of(find(roots), PLACE)

    form = step()
    scaler.update()
    after = scaler.state_dict()
    step()
    scaler.update()
    assert scaler.state_dict() != after
    form.apply(find(roots))
    scaler.update()
    assert scaler.state_dict() == after


def test_what_the_caller_adds_is_copied_and_read_again(tmp_path: Path) -> None:
    numbers = np.arange(4)
    more = {"loaders": {"loader0": (1, {"seed": 2**70}), "array": numbers, "complex": torch.tensor([1 + 2j])}}
    form = Form.of(find({}), PLACE, random={"python": (3, tuple(range(625)), None)}, more=more)
    numbers[:] = 0
    read = read_form(write_form(form, tmp_path, "a", {"reason": "asked"}).path)
    assert read.random == {"python": (3, tuple(range(625)), None)}
    loaders = read.sections["loaders"]
    assert loaders["loader0"] == (1, {"seed": 2**70})
    assert loaders["array"].tolist() == [0, 1, 2, 3]
    assert torch.equal(loaders["complex"], torch.tensor([1 + 2j]))
    assert read.place == PLACE


def test_a_module_that_gives_no_state_is_refused() -> None:
    class Broken(nn.Linear):
        def state_dict(self, *given: Any, **more: Any) -> Any:
            raise RuntimeError("sharded")

    with pytest.raises(Refused, match="net does not give its state: RuntimeError: sharded"):
        Form.of(find({"net": Broken(1, 1)}), PLACE)


def test_extra_state_goes_through_the_module(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        count = 0

        def get_extra_state(self) -> Any:
            return {"count": self.count}

        def set_extra_state(self, state: Any) -> None:
            self.count = state["count"]

    model = Counting(2, 2)
    model.count = 3
    weight = bits(model.weight)
    form = read_form(write_form(Form.of(find({"model": model}), PLACE), tmp_path, "a").path)
    model.count = 0
    with torch.no_grad():
        model.weight.zero_()
    form.apply(find({"model": model}))
    assert (model.count, bits(model.weight)) == (3, weight)


@pytest.mark.parametrize(
    "state", [b"{}", b"[]", b'{"place": 1, "versions": 2}', b'{"place": {"x": 1}, "versions": {}}']
)
def test_members_that_are_no_state_are_damaged(state: bytes) -> None:
    good = {
        name: bytearray(b"".join(map(bytes, pieces)))
        for name, pieces in Training("SGD", "StepLR").form().members().items()
    }
    with pytest.raises(Damaged):
        Form.read({**good, "state.json": bytearray(state)})
    with pytest.raises(Damaged):
        Form.read({"state.json": good["state.json"]})


def test_exports_need_no_onthefly(tmp_path: Path) -> None:
    import subprocess
    import sys

    training = Training("Adam", "CosineAnnealingLR")
    training.step(0)
    training.scheduler.base_lrs = [np.float64(0.01)]  # as a script's own arithmetic leaves it
    path = write_form(training.form(), tmp_path, "baseline-3").path
    assert export_pt(path, tmp_path / "model.pt") == (tmp_path / "model.pt").stat().st_size
    export_safetensors(training.form(), tmp_path / "model.safetensors")
    code = (
        "import sys, torch\nfrom torch import nn\nfrom safetensors.torch import load_file\n"
        "model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))\n"
        "found = torch.load('model.pt', weights_only=True)\n"
        "model.load_state_dict(found['model'])\n"
        "optimizer = torch.optim.Adam(model.parameters())\noptimizer.load_state_dict(found['optimizer'])\n"
        "scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)\n"
        "scheduler.load_state_dict(found['scheduler'])\n"
        "same = load_file('model.safetensors')\n"
        "assert all(torch.equal(same[name], tensor) for name, tensor in found['model'].items())\n"
        "print(list(found), found['step'], found['epoch'], 'onthefly' in sys.modules, scheduler.base_lrs)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout == "['model', 'optimizer', 'scheduler', 'step', 'epoch'] 3 1 False [0.01]\n"


def test_several_modules_are_exported_under_their_names(tmp_path: Path) -> None:
    small, large, step = nn.Linear(2, 2), nn.Linear(20, 20), nn.Linear(1, 1)
    roots: Any = {"small": small, "large": large, "step": step, "opt_s": torch.optim.SGD(small.parameters(), 0.1),
                  "opt_l": torch.optim.SGD(large.parameters(), 0.2)}  # fmt: skip
    export_pt(Form.of(find(roots), PLACE), tmp_path / "m.pt")
    found: Any = torch.load(tmp_path / "m.pt", weights_only=True)
    assert list(found) == ["model", "optimizer", "step", "epoch", "small", "modules.step", "opt_s"]
    assert isinstance(found["model"], OrderedDict)
    assert found["model"]["weight"].shape == (20, 20)
    assert found["optimizer"]["param_groups"][0]["lr"] == 0.2
    with pytest.raises(Refused, match="no module"):
        export_pt(Form.of(find({}), PLACE), tmp_path / "n.pt")
    assert not (tmp_path / "n.pt").exists()


def test_tensors_that_are_not_plain_elements_are_refused_when_they_are_to_be_restored() -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    class Named(nn.Parameter):
        """Elements like any other's."""

    model = nn.Linear(2, 2)
    model.weight = Named(torch.ones(2, 2))
    twice: Any = TwoTensor(torch.ones(2), torch.ones(2))
    model.bias = nn.Parameter(twice)
    model.register_buffer("sparse", torch.eye(2).to_sparse())
    form = Form.of(find({"model": model}), PLACE)
    assert [text.partition(":")[0] for text in form.left_out] == ["model.bias", "model.sparse"]
    with pytest.raises(Refused, match=r"model\.(bias|sparse) is not in it: it was a"):
        form.apply(find({"model": model}))
