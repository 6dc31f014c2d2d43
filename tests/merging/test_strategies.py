"""Every strategy against a computation of its own: NumPy on plain arrays, torch's own tools, closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from onthefly.errors import Refused
from onthefly.merging.adapters import fuse
from onthefly.merging.averaging import average
from onthefly.merging.dare import dare
from onthefly.merging.distill import distill
from onthefly.merging.fisher import empirical, fisher, of_classifier
from onthefly.merging.parents import Parents, State
from onthefly.merging.regmean import gram_matrices, regmean
from onthefly.merging.slerp import slerp
from onthefly.merging.soup import greedy
from onthefly.merging.statistics import reestimate
from onthefly.merging.ties import ties
from tests.merging.models import copied, net, parents, trained

FLOATS = [name for name, value in net().state_dict().items() if value.is_floating_point()]


def arrays(given: Parents, name: str) -> list[Any]:
    return [state[name].double().numpy() for state in given.states]


def close(found: Tensor, wanted: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found.double(), torch.as_tensor(wanted), rtol=tolerance, atol=tolerance)


def test_the_uniform_soup_is_torchs_averaged_model() -> None:
    given = parents(4)
    model = net()
    averaged = AveragedModel(model, use_buffers=True)
    for state in given.states:
        model.load_state_dict(state)
        averaged.update_parameters(model)
    merged = average(given)
    for name in FLOATS:
        close(merged[name], averaged.module.state_dict()[name].double())


def test_a_weighted_average_is_the_formula() -> None:
    given = parents(3)
    merged = average(given, [1, 2, 5])
    for name in FLOATS:
        one, two, three = arrays(given, name)
        close(merged[name], (one + 2 * two + 5 * three) / 8)


def test_the_greedy_soup_leaves_out_what_makes_it_worse() -> None:
    base, (good, better) = trained(2)
    bad = {name: value + 3 if value.is_floating_point() else value for name, value in good.items()}

    def score(state: State) -> float:  # the nearer to the mean of the two good ones, the better
        return -sum(float((state[name] - (good[name] + better[name]) / 2).square().sum()) for name in FLOATS)

    soup, chosen = greedy(Parents({"bad": bad, "good": good, "better": better}, base), score)
    assert set(chosen) == {"good", "better"}
    assert chosen[0] == max(("good", "better"), key=lambda name: score(good if name == "good" else better))
    for name in FLOATS:
        close(soup[name], ((good[name] + better[name]) / 2).double())
    with pytest.raises(Refused, match="not a finite number"):
        greedy(Parents({"good": good, "better": better}), lambda state: float("nan"))


def test_fisher_merging_is_the_joint_optimum_of_quadratics() -> None:
    """Parents at the minima of ``(x - a)^T D (x - a)``: merged by ``D``, they are the minimum of the sum."""
    chance = np.random.default_rng(3)
    points, curvatures = chance.normal(size=(3, 20)), chance.uniform(0.5, 9, size=(3, 20))
    given = Parents({f"p{i}": {"x": torch.tensor(point)} for i, point in enumerate(points)})
    merged = fisher(given, [{"x": torch.tensor(curvature)} for curvature in curvatures])
    x = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([x], max_iter=500, tolerance_grad=1e-14, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (torch.tensor(curvatures) * (x - torch.tensor(points)).square()).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    close(merged["x"], x.detach(), 1e-4)


def test_the_information_of_a_linear_classifier_is_its_closed_form() -> None:
    """For logits ``W x``: the diagonal for ``W[c, j]`` is the mean over samples of ``p_c (1 - p_c) x_j^2``."""
    torch.manual_seed(1)
    model = nn.Linear(5, 4, bias=False).double()
    x = torch.randn(30, 5, dtype=torch.float64)
    found = of_classifier(model, x.split(7), torch.Generator().manual_seed(0))
    chances = torch.softmax(x @ model.weight.detach().T, -1)
    wanted = torch.einsum("nc,nj->cj", chances * (1 - chances), x.square()) / len(x)
    close(found["weight"], wanted, 1e-10)


def test_the_empirical_information_is_that_of_single_gradients() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    x, y = torch.randn(6, 3), torch.randn(6, 1)
    model.eval()
    found = empirical(
        dict(model.named_parameters()), zip(x, y), lambda one: (model(one[0][None]) - one[1]).square().mean()
    )
    total = torch.zeros(4, 3)
    for one, target in zip(x, y):
        model.zero_grad()
        (model(one[None]) - target).square().mean().backward()
        assert isinstance(model[0].weight.grad, Tensor)
        total += model[0].weight.grad.square()
    close(found["0.weight"], (total / 6).double())


def test_fisher_without_information_is_refused_and_without_knowledge_all_count_alike() -> None:
    given = parents(2)
    with pytest.raises(Refused, match="of a parent is missing"):
        fisher(given, [{}])
    with pytest.raises(Refused, match="some parents only"):
        fisher(given, [{"0.weight": torch.ones(6, 8)}, {}])
    with pytest.raises(Refused, match="non-negative"):
        fisher(given, [{"0.weight": torch.ones(6, 8)}, {"0.weight": -torch.ones(6, 8)}])
    nothing = [{"0.weight": torch.zeros(6, 8)} for _ in range(2)]
    close(fisher(given, nothing)["0.weight"], average(given)["0.weight"].double())


def test_regmean_is_the_least_squares_of_all_outputs() -> None:
    torch.manual_seed(4)
    layers = [nn.Linear(6, 3, bias=False).double() for _ in range(3)]
    inputs = [torch.randn(40, 6, dtype=torch.float64) for _ in range(3)]
    grams = [gram_matrices(layer, layer, x.split(11)) for layer, x in zip(layers, inputs)]
    given = Parents({f"p{i}": copied(layer) for i, layer in enumerate(layers)})
    merged = regmean(given, grams, alpha=1.0)["weight"]
    outputs = np.concatenate([(x @ layer.weight.detach().T).numpy() for layer, x in zip(layers, inputs)])
    wanted = np.linalg.lstsq(np.concatenate([x.numpy() for x in inputs]), outputs, rcond=None)[0]
    close(merged, wanted.T, 1e-9)
    shrunk = regmean(given, grams, alpha=0.7)["weight"]
    scaled = [0.7 * (x.T @ x).numpy() + 0.3 * np.diag(np.diag((x.T @ x).numpy())) for x in inputs]
    right = sum(gram @ layer.weight.detach().numpy().T for gram, layer in zip(scaled, layers))
    close(shrunk, np.linalg.solve(sum(scaled), right).T, 1e-9)


def test_regmean_with_inputs_that_no_data_have_leaves_the_mean_there() -> None:
    layers = [nn.Linear(4, 2, bias=False).double() for _ in range(2)]
    x = torch.randn(10, 4, dtype=torch.float64)
    x[:, 3] = 0.0
    grams = [gram_matrices(layer, layer, [x]) for layer in layers]
    merged = regmean(Parents({"a": copied(layers[0]), "b": copied(layers[1])}), grams)["weight"]
    close(merged[:, 3], ((layers[0].weight + layers[1].weight) / 2)[:, 3].detach(), 1e-9)


def _ties(base: Any, others: list[Any], density: float, scale: float) -> Any:
    """In NumPy, number by number."""
    changes: list[Any] = []
    for other in others:
        change = (other - base).ravel()
        kept = np.zeros_like(change)
        largest = sorted(range(len(change)), key=lambda place: -abs(change[place]))[
            : max(1, round(density * len(change)))
        ]
        kept[largest] = change[largest]
        changes.append(kept)
    merged = np.zeros_like(changes[0])
    for place in range(len(merged)):
        values = [change[place] for change in changes]
        sign = np.sign(sum(values))
        agreeing = [value for value in values if value and np.sign(value) == sign]
        merged[place] = sum(agreeing) / len(agreeing) if agreeing else 0.0
    return base + scale * merged.reshape(base.shape)


@pytest.mark.parametrize(("density", "scale"), [(0.2, 1.0), (0.5, 0.7), (1.0, 1.0)])
def test_ties_is_the_formula(density: float, scale: float) -> None:
    given = parents(3)
    assert given.base is not None
    merged = ties(given, density, scale)
    for name in FLOATS:
        close(merged[name], _ties(given.base[name].double().numpy(), arrays(given, name), density, scale))


def test_dare_keeps_a_part_of_the_changes_scaled_up_and_is_the_base_and_change_in_the_mean() -> None:
    base = {"x": torch.zeros(20_000)}
    given = Parents({"a": {"x": torch.ones(20_000)}, "b": {"x": torch.full((20_000,), 3.0)}}, base)
    merged = dare(given, seed=5, drop=0.75)["x"]
    assert sorted(set(merged.tolist())) == [0.0, 2.0, 6.0, 8.0]  # each change times four, halved
    assert float(merged.mean()) == pytest.approx(2.0, abs=0.06)
    assert torch.equal(merged, dare(given, seed=5, drop=0.75)["x"])
    assert not torch.equal(merged, dare(given, seed=6, drop=0.75)["x"])
    full = parents(3)
    for name in FLOATS:
        close(dare(full, seed=1, drop=0.0)[name], average(full)[name].double())
    close(dare(full, 1, 0.0, elect=True)["0.weight"], ties(full, 1.0)["0.weight"].double())


def test_slerp_goes_along_the_arc() -> None:
    one, other = {"x": torch.tensor([1.0, 0.0])}, {"x": torch.tensor([0.0, 1.0])}
    given = Parents({"a": one, "b": other})
    for t in (0.0, 0.25, 0.5, 1.0):
        close(slerp(given, t)["x"], np.array([np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)]))
    line = Parents({"a": {"x": torch.tensor([1.0, 2.0])}, "b": {"x": torch.tensor([2.0, 4.0])}})
    close(slerp(line, 0.25)["x"], np.array([1.25, 2.5]))
    with pytest.raises(Refused, match="two models"):
        slerp(parents(3))


def test_adapters_are_averaged_on_one_model_only() -> None:
    below = torch.randn(3, 3)
    states: dict[str, State] = {
        f"p{number}": {"layer.weight": below.clone(), "layer.lora_A.weight": torch.full((1, 3), float(number))}
        for number in range(3)
    }
    merged = fuse(Parents(states))
    assert torch.equal(merged["layer.weight"], below)
    assert torch.equal(merged["layer.lora_A.weight"], torch.ones(1, 3))
    states["p2"]["layer.weight"] = below + 1
    with pytest.raises(Refused, match=r"layer\.weight differs"):
        fuse(Parents(states))
    with pytest.raises(Refused, match="name of an adapter"):
        fuse(parents(2))


def test_a_student_comes_to_what_its_teachers_say_together() -> None:
    torch.manual_seed(6)
    teachers = [nn.Linear(4, 3) for _ in range(2)]
    student = nn.Linear(4, 3)
    student.load_state_dict(average(Parents({"a": copied(teachers[0]), "b": copied(teachers[1])})))
    x = torch.randn(256, 4)
    optimizer = torch.optim.Adam(student.parameters(), 0.02)
    losses = distill(student, teachers, (x for _ in range(1000)), 400, optimizer)
    assert len(losses) == 400
    with torch.no_grad():
        said = torch.stack([torch.softmax(teacher(x) / 2, -1) for teacher in teachers]).mean(0)
        wanted = float((said * (said.log() - torch.log_softmax(student(x) / 2, -1))).sum(-1).mean())
    assert losses[-1] == pytest.approx(4 * wanted, rel=0.05, abs=1e-4)
    assert losses[-1] < 0.5 * losses[0]
    with pytest.raises(Refused, match="ended after 2 of 3 steps"):
        distill(student, teachers, [x, x], 3, optimizer)
    with pytest.raises(Refused, match="one step at least"):
        distill(student, teachers, [x], 0, optimizer)


def test_statistics_are_those_of_update_bn() -> None:
    given = parents(2)
    model, other = net(), net()
    model.load_state_dict(average(given))
    other.load_state_dict(average(given))
    batches = list(torch.randn(100, 8).split(25))
    momentum = [module.momentum for module in model if isinstance(module, nn.BatchNorm1d)]
    model.eval()
    assert reestimate(model, model, batches) == 4
    other.train()
    update_bn(batches, other)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(model.state_dict()[name], other.state_dict()[name]), name
    assert not any(module.training for module in model.modules())
    assert momentum == [module.momentum for module in model if isinstance(module, nn.BatchNorm1d)]
    before = copied(model)
    with pytest.raises(Refused, match="there was none"):
        reestimate(model, model, [])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
