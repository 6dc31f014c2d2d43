"""Merges of runs: the strategies get the right models and data, BatchNorm and optimizers what was asked, or nothing."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onthefly.merging import ties as ties_room
from onthefly.merging.parents import Parents
from onthefly.runs.model import Model
from tests.actions.played import play
from tests.insight.played import Asked, ask
from tests.runs.test_fork import SPECIALIST

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.actions.desk import Commander

pytestmark = pytest.mark.dear

FIRST, SECOND = list(range(5, 45)), list(range(30, 60))
FORKS: list[tuple[str, dict[str, Any]]] = [
    ("switch", {"run": "baseline"}), ("fork", {"samples": SECOND, "steps": 6, "name": "second", "seed": 9}),
]  # fmt: skip
X = Y = torch.empty(0)


class Seen:
    """What the runs were when the merge was made, and what it made."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Tensor]] = {}
        self.merged: dict[str, Tensor] = {}
        self.optimizer: dict[int, Any] = {}
        self.before: dict[int, Any] = {}
        self.answer: Any = None
        self.net: Any = None
        self.data: Any = None


def merged(folder: Path, rate: float = 0.01, **given: Any) -> tuple[Seen, Asked]:
    """The script with two forks at that rate, and that merge of them."""
    seen = Seen()

    @contextlib.contextmanager
    def during(commander: Commander) -> Generator[None, None, None]:
        gate: Any = commander.kept.session._gate
        control: Any = commander.kept.session._control
        original = gate.actions["merge"]

        def merge(args: Any, moment: Any, by: str) -> Any:
            model = Model(control.insight.way("recipe").modules)
            optimizer = control._optimizers.living()[0]
            for run in ("baseline", "fork1", "second"):
                _, values = control.runs.values(run)
                seen.states[run] = copy.deepcopy(model.state(values or None))
            seen.before = copy.deepcopy(optimizer.state_dict()["state"])
            seen.net, seen.data = copy.deepcopy(model.whole), control.insight.split("scan", args).loader.dataset.tensors
            result = original(args, moment, by)
            seen.merged, seen.answer = model.state(), result
            seen.optimizer = copy.deepcopy(optimizer.state_dict()["state"])
            return result

        gate.actions["merge"] = merge
        yield

    path = folder / "script.py"
    path.write_text(SPECIALIST)
    at: Any = {
        2: [("pause", {}), ("fork", {"samples": FIRST, "steps": 7, "settings": {"lr": rate}})],
        4: [
            ("switch", {"run": "baseline"}),
            ("fork", {"samples": SECOND, "steps": 6, "name": "second", "seed": 9, "settings": {"lr": rate}}),
            ("merge", {"runs": ["fork1", "second"], **given}), ("resume", {}),
        ],
    }  # fmt: skip
    asked = Asked(play(path, folder=folder / "data", at=at, during=during))
    return seen, asked


def trained(seen: Seen) -> list[str]:
    """Parameters by name: what has no running statistics."""
    return [name for name in seen.states["fork1"] if "running" not in name and "num_batches" not in name]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=1e-6)


def expect_mean(seen: Seen, weights: dict[str, float]) -> None:
    for name in trained(seen):
        close(seen.merged[name], sum((share * seen.states[run][name].double() for run, share in weights.items()),
                                     torch.zeros(())))  # fmt: skip


def expect_statistics(seen: Seen) -> None:
    """As torch's own ``update_bn`` estimates them, over the batches of the loader's samples in the seed's order."""
    x, _ = seen.data
    net = copy.deepcopy(seen.net)
    net.load_state_dict(seen.merged)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(15)
    torch.optim.swa_utils.update_bn([x[batch] for batch in order], net)
    close(seen.merged["1.running_mean"], net[1].running_mean)
    # update_bn leaves dropout and BatchNorm in training mode alike; the statistics before dropout are the same
    close(seen.merged["1.running_var"], net[1].running_var)
    assert int(seen.merged["1.num_batches_tracked"]) == 4


def test_the_mean_of_two_runs_has_statistics_of_its_own(tmp_path: Path) -> None:
    seen, asked = merged(tmp_path, strategy="uniform", force=True)
    expect_mean(seen, {"fork1": 0.5, "second": 0.5})
    expect_statistics(seen)
    assert not torch.equal(seen.states["fork1"]["1.running_mean"], seen.states["second"]["1.running_mean"])
    assert seen.answer["run"] == "merge1"
    assert set(seen.answer["evaluations"]) == {"fork1", "second", "merge1"}
    assert seen.optimizer == {}
    assert [one.run for one in asked.run.commander.controls().runs if one.current] == ["merge1"]
    calls = asked.run.losses()["merge1"]
    assert calls
    branch = [one.branch for one in asked.messages if getattr(one, "branch", None) is not None][-1]
    assert (branch.kind, branch.parents, branch.strategy) == ("merge", ["fork1", "second"], "uniform")


def test_weights_count(tmp_path: Path) -> None:
    seen, _ = merged(tmp_path, strategy="weighted", weights=[3.0, 1.0], force=True)
    expect_mean(seen, {"fork1": 0.75, "second": 0.25})
    expect_statistics(seen)


def test_fisher_is_estimated_on_each_runs_own_samples(tmp_path: Path) -> None:
    seen, _ = merged(tmp_path, strategy="fisher", force=True)
    x, _ = seen.data
    total, norm = {name: torch.zeros(()) for name in trained(seen)}, dict[str, Any]()
    for run, samples in (("fork1", FIRST), ("second", SECOND)):
        net = copy.deepcopy(seen.net).eval()
        net.load_state_dict(seen.states[run])
        information = {name: torch.zeros_like(value).double() for name, value in net.named_parameters()}
        for sample in samples:
            for label in range(3):
                net.zero_grad()
                logits = torch.log_softmax(net(x[sample][None])[0], -1)
                logits[label].backward()
                for name, value in net.named_parameters():
                    assert value.grad is not None
                    information[name] += logits[label].exp().item() * value.grad.double().square() / len(samples)
        for name, found in information.items():
            found = found + 1e-6 * found.max().clamp_min(1e-30)
            total[name] = total[name] + found * seen.states[run][name].double()
            norm[name] = norm.get(name, 0.0) + found
    for name in trained(seen):
        close(seen.merged[name], total[name] / norm[name])
    assert "of its own predictions" in seen.answer["verdict"]


def test_regmean_sees_the_inputs_of_each_run(tmp_path: Path) -> None:
    seen, _ = merged(tmp_path, strategy="regmean", parameters={"alpha": 1.0}, force=True)
    x, _ = seen.data
    grams = {run: (x[samples].T @ x[samples]).double() for run, samples in (("fork1", FIRST), ("second", SECOND))}
    weights = {run: seen.states[run]["0.weight"].double() for run in grams}
    right = sum((grams[run] @ weights[run].T for run in grams), torch.zeros(()))
    close(seen.merged["0.weight"], torch.linalg.solve(sum(grams.values(), torch.zeros(())), right).T)


def test_ties_begins_from_what_both_forked_from(tmp_path: Path) -> None:
    seen, _ = merged(tmp_path, strategy="ties", parameters={"density": 0.5}, force=True)
    expected = ties_room.ties(
        Parents({run: seen.states[run] for run in ("fork1", "second")}, seen.states["baseline"]), 0.5
    )
    for name in trained(seen):
        close(seen.merged[name], expected[name])
    assert not torch.equal(seen.merged["0.weight"], seen.states["fork1"]["0.weight"])


def test_dare_is_drawn_by_its_seed(tmp_path: Path) -> None:
    seen, _ = merged(tmp_path, strategy="dare", parameters={"drop": 0.5}, seed=4, force=True)
    own, base = torch.Generator().manual_seed(4), seen.states["baseline"]
    runs = [seen.states["fork1"], seen.states["second"]]
    for name in [name for name in base if not torch.equal(runs[0][name], runs[1][name]) and "num" not in name]:
        kept = torch.rand((2, *base[name].shape), generator=own) >= 0.5
        changes = torch.stack([run[name].double() - base[name].double() for run in runs]) * kept / 0.5
        if "running" not in name:
            close(seen.merged[name], base[name].double() + changes.mean(0))


def test_a_student_comes_closer_to_what_its_parents_say(tmp_path: Path) -> None:
    seen, _ = merged(tmp_path, 0.5, strategy="distill", parameters={"steps": 300.0, "lr": 0.01}, force=True)
    x, _ = seen.data

    def says(state: dict[str, Tensor]) -> Tensor:
        net = copy.deepcopy(seen.net).eval()
        net.load_state_dict(state)
        with torch.no_grad():
            return torch.softmax(net(x) / 2.0, -1)

    teachers = (says(seen.states["fork1"]) + says(seen.states["second"])) / 2
    average = {name: (seen.states["fork1"][name] + seen.states["second"][name]) / 2 for name in seen.merged}
    divergence = lambda said: F.kl_div(said.log(), teachers, reduction="batchmean").item()  # noqa: E731
    assert divergence(says(seen.merged)) < 0.5 * divergence(says(average))


@pytest.mark.parametrize("optimizer", ["reset", "keep", "mean"])
def test_the_optimizers_state_is_what_was_asked_for(tmp_path: Path, optimizer: str) -> None:
    seen, _ = merged(tmp_path, strategy="slerp", optimizer=optimizer, force=True)
    if optimizer == "reset":
        assert seen.optimizer == {}
    elif optimizer == "keep":
        assert all(torch.equal(seen.optimizer[key][name], value) for key, state in seen.before.items()
                   for name, value in state.items())  # fmt: skip
    else:
        assert not torch.equal(seen.optimizer[0]["exp_avg"], seen.before[0]["exp_avg"])
        assert float(seen.optimizer[0]["step"]) == (12 + 11) / 2


def test_one_that_is_worse_is_not_taken_and_nothing_has_changed(tmp_path: Path) -> None:
    given: Any = {"strategy": "dare", "parameters": {"drop": 0.99}, "seed": 1, "runs": ["fork1", "second"]}
    forks = [("switch", {"run": "baseline"}), ("fork", {"samples": SECOND, "epochs": 20, "name": "second",
                                                        "settings": {"lr": 0.3}})]  # fmt: skip
    at: Any = {
        2: [("pause", {}), ("fork", {"samples": FIRST, "epochs": 20, "settings": {"lr": 0.3}})],
        4: [*forks, ("merge", given), ("switch", {"run": "baseline"}), ("resume", {})],
    }
    asked, plain = ask(tmp_path, SPECIALIST, at)
    answer = asked.answers[4]
    assert answer.status == "refused", answer
    assert answer.reason.startswith("the merged model is not taken: worse than")
    assert asked.run.hashes == plain.hashes
    assert asked.run.out == plain.out
    assert "merge1" not in asked.run.losses()
    assert {one.run for one in asked.evaluations.values()} == {"fork1", "second", "merge1"}


def test_runs_are_compared_on_the_same_samples(tmp_path: Path) -> None:
    at: Any = {
        2: [("pause", {}), ("fork", {"samples": FIRST, "steps": 7})],
        4: [("compare", {"runs": ["baseline", "fork1"]}), ("switch", {"run": "baseline"}), ("resume", {})],
    }
    asked, plain = ask(tmp_path, SPECIALIST, at)
    labels = asked.answers[2].result["evaluations"]
    assert list(labels) == ["baseline", "fork1"]
    assert [asked.evaluations[label].run for label in labels.values()] == ["baseline", "fork1"]
    assert [asked.evaluations[label].step for label in labels.values()] == [5, 12]
    one, other = (asked.losses(label) for label in labels.values())
    assert one.keys() == other.keys() == set(range(30))
    assert one != other
    assert asked.run.hashes == plain.hashes


def test_after_a_merge_was_taken_the_baseline_goes_on_as_if_there_were_none(tmp_path: Path) -> None:
    at: Any = {
        2: [("pause", {}), ("fork", {"samples": FIRST, "steps": 7})],
        4: [*FORKS, ("merge", {"strategy": "uniform", "runs": ["fork1", "second"], "force": True}),
            ("switch", {"run": "baseline"}), ("resume", {})],
    }  # fmt: skip
    asked, plain = ask(tmp_path, SPECIALIST, at)
    assert asked.answers[4].status == "applied", asked.answers[4]
    assert asked.run.hashes == plain.hashes, "the optimizer that the merge has reset included"
    assert asked.run.out == plain.out


SHARED = SPECIALIST.replace(
    "loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)",
    """
from torch.utils.data import SubsetRandomSampler
both = TensorDataset(x, y)
loader = DataLoader(both, 16, sampler=SubsetRandomSampler(range(45)))""",
).replace(
    "valid_loader = DataLoader(TensorDataset(x[:30] + 0.1, y[:30]), batch_size=16)",
    "valid_loader = DataLoader(both, 16, sampler=SubsetRandomSampler(range(FROM, 60)))",
)

BLURRED = SPECIALIST.replace(
    "F.cross_entropy(net(inputs), targets)", "F.cross_entropy(net(inputs), targets, reduction='none').logsumexp(0)"
)


@pytest.mark.parametrize(("first", "reason"), [(45, ""), (44, "what the runs were trained on")])
def test_two_samplers_share_out_a_data_set(tmp_path: Path, first: int, reason: str) -> None:
    at: Any = {
        2: [("pause", {}), ("fork", {"steps": 3})],
        4: [("merge", {"strategy": "uniform", "runs": ["baseline", "fork1"], "force": True}), ("resume", {})],
    }
    asked, _ = ask(tmp_path, SHARED.replace("FROM", str(first)), at)
    answer = asked.answers[2]
    assert answer.status == ("refused" if reason else "applied"), answer
    assert reason in answer.reason


@pytest.mark.parametrize("force", [False, True])
def test_where_no_sample_is_told_apart_only_force_takes_it(tmp_path: Path, force: bool) -> None:
    at: Any = {
        2: [("pause", {}), ("fork", {"steps": 3})],
        4: [("merge", {"strategy": "uniform", "runs": ["baseline", "fork1"], "force": force}), ("resume", {})],
    }
    asked, _ = ask(tmp_path, BLURRED, at)
    answer = asked.answers[2]
    assert answer.status == ("applied" if force else "refused"), answer
    said = answer.result["verdict"] if force else answer.reason
    assert "could not be told apart" in said
    assert ("taken by force" in said) == force


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown strategy": ({"strategy": "nonsense"}, "there is no strategy 'nonsense'"),
    "unknown parameter": ({"strategy": "slerp", "parameters": {"density": 0.5}}, "slerp takes no 'density'"),
    "weights that it does not take": ({"strategy": "uniform", "weights": [1.0, 2.0]}, "uniform takes no weights"),
    "no weights": ({"strategy": "weighted"}, "weighted wants weights"),
    "too many weights": ({"strategy": "weighted", "weights": [1.0, 2.0, 3.0]}, "3 weights were given for 2 models"),
    "three for slerp": ({"strategy": "slerp", "runs": ["baseline", "fork1", "second"]}, "slerp takes two models"),
    "a run twice": ({"strategy": "uniform", "runs": ["fork1", "fork1"]}, "named twice"),
    "a run that is not there": ({"strategy": "uniform", "runs": ["fork1", "fork7"]}, "no run 'fork7'"),
    "tested on what it was trained on": ({"strategy": "uniform", "loader": "loader0"}, "what the runs were trained on"),
    "a name that is taken": ({"strategy": "uniform", "name": "second"}, "a run 'second' already"),
    "no adapters": ({"strategy": "adapters"}, "the name of an adapter"),
    "no steps": ({"strategy": "distill", "parameters": {"steps": 0.0}}, "one step at least"),
    "a rate that is none": ({"strategy": "distill", "parameters": {"lr": 1e38}}, "the merge failed: RuntimeError"),
    "a scale that destroys it": ({"strategy": "ties", "parameters": {"scale": 1e300}}, "not finite"),
    "one run": ({"strategy": "uniform", "runs": ["fork1"]}, "length >= 2"),
}


def test_what_cannot_be_merged_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    asked_for = [("merge", {"runs": ["fork1", "second"], "force": True, **given}) for given, _ in REFUSED.values()]
    at: Any = {
        2: [("pause", {}), ("fork", {"samples": FIRST, "steps": 2})],
        4: [*FORKS, *asked_for, ("switch", {"run": "baseline"}), ("resume", {})],
    }
    asked, plain = ask(tmp_path, SPECIALIST, at)
    for (what, (_, reason)), answer in zip(REFUSED.items(), asked.answers[4:]):
        assert answer.status == "refused", (what, answer)
        assert reason in answer.reason, (what, answer)
    assert [answer.status for answer in asked.answers[-2:]] == ["applied", "applied"]
    assert asked.run.hashes == plain.hashes
    assert asked.run.out == plain.out
    assert set(asked.run.losses()) == {"baseline", "fork1", "second"}


def test_a_model_with_no_norms_is_not_changed_by_an_estimate(tmp_path: Path) -> None:
    model = Model([nn.Linear(3, 2)])
    state = model.state()
    with model.lent({name: torch.zeros_like(value) for name, value in state.items()}):
        assert float(model.whole(torch.ones(1, 3)).detach().abs().sum()) == 0.0
    assert all(torch.equal(value, model.tensors[name]) for name, value in state.items())
