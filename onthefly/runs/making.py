"""One model out of several runs: a strategy of :mod:`onthefly.merging`, given what it needs by the script's own step.

All of it works on the living model, which whoever calls puts back afterwards from a checkpoint.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from onthefly.errors import Refused, outcome
from onthefly.insight.operations import name_of
from onthefly.insight.values import tensors
from onthefly.merging import adapters, averaging, dare, distill, fisher, regmean, slerp, soup, statistics, ties
from onthefly.runs.training import rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from onthefly.insight.evaluation import Watch, Way
    from onthefly.insight.recipe import Recipe
    from onthefly.insight.split import Split
    from onthefly.merging.parents import Parents, State
    from onthefly.merging.table import Strategy
    from onthefly.runs.model import Model

SAMPLES, STATISTICS_SAMPLES = 512, 4096
"""Of each parent, for what is estimated on its data; and for BatchNorm's statistics."""

STEPS, RATE = 100.0, 1e-3
"""Of a distillation where nothing is said."""

CLASSIFYING = ("CrossEntropyLoss", "NLLLoss", "cross_entropy", "nll_loss", "cross_entropy_loss")


class Means(NamedTuple):
    """What a merge is made with."""

    model: Model
    way: Way
    recipe: Recipe | None
    data: Mapping[str, Split]
    """Of each parent: the samples that it was trained on."""
    trained: Split
    """All that the script trains on."""
    held: Split
    """None of them was trained on these."""
    parameters: Mapping[str, float]
    weights: Sequence[float]
    seed: int
    watch: Watch


def check(row: Strategy, parameters: Mapping[str, float], weights: Sequence[float]) -> None:
    """Refuse what that strategy does not take: nothing is left out silently."""
    unknown = [name for name in parameters if name not in row.takes]
    known = ", ".join(name for name in row.takes if name != "weights") or "none"
    if unknown:
        raise Refused(f"{row.name} takes no {unknown[0]!r}", f"its parameters: {known}")
    if weights and "weights" not in row.takes:
        raise Refused(f"{row.name} takes no weights", "weighted does")
    if row.name == "weighted" and not weights:
        raise Refused("weighted wants weights", "one for each run; without them it is uniform")


def make(row: Strategy, parents: Parents, given: Means) -> tuple[State, str]:
    """The merged state, BatchNorm's statistics estimated anew; and what there is to say of how it came about."""
    state, note = _MAKERS[row.name](parents, given)
    return with_statistics(state, parents, given), note


def with_statistics(state: State, parents: Parents, given: Means) -> State:
    """The same, its statistics of what it gives itself, where the parents have other ones; the model holds it then."""
    given.model.put(state)
    if not parents.statistics:
        return state
    split = given.trained
    count = max(1, min(-(-STATISTICS_SAMPLES // split.size), -(-split.count // split.size)))
    batches = itertools.islice(rounds(split, given.way, given.seed), count)
    statistics.reestimate(given.model.whole, lambda batch: given.way.loss(batch[1]), batches)
    return given.model.state()


def _averaged(parents: Parents, given: Means) -> tuple[State, str]:
    return averaging.average(parents, given.weights or None), ""


def _greedy(parents: Parents, given: Means) -> tuple[State, str]:
    def score(state: State) -> float:
        with_statistics(state, parents, given)
        total, count = 0.0, 0
        with evaluating(given):
            for batch in given.held.batches():
                rows = len(batch.drawn or ())
                total += float(given.way.loss(batch.data).detach().mean()) * rows
                count += rows
        return -total / max(count, 1)

    state, chosen = soup.greedy(parents, score)
    return state, f"of {', '.join(chosen)}"


def _fisher(parents: Parents, given: Means) -> tuple[State, str]:
    found: list[dict[str, Tensor]] = []
    kinds: set[str] = set()
    for number, (name, state) in enumerate(zip(parents.names, parents.states)):
        _goes_on(given, number, len(parents.names))
        given.model.put(state)
        with evaluating(given):
            information, kind = _information(given, given.data[name])
        found.append(information)
        kinds.add(kind)
    if len(kinds) > 1:
        raise Refused("the Fisher information of the parents was not estimated in one way", "take another strategy")
    return fisher.fisher(parents, found, given.weights or None), f"Fisher information {kinds.pop()}"


def _information(given: Means, split: Split) -> tuple[dict[str, Tensor], str]:
    """Under the model's own predictions where its outputs are the scores of classes, else of the given targets."""
    inputs = _inputs(given, split)
    if inputs is not None:
        own = torch.Generator().manual_seed(given.seed)
        found, fault = outcome(fisher.of_classifier, given.model.whole, inputs, own)
        if fault is None and found:
            return found, "of its own predictions"
    singles = (split.fetch([index]) for index in _some(split, given))
    trained = dict(given.model.whole.named_parameters())

    def loss(sample: Any) -> Tensor:
        if not given.way.serves(sample):
            raise Refused("the step that was traced takes batches of one size: no gradient of a single sample is known",
                          "register a function: onthefly.session().register(step=fn)")  # fmt: skip
        return given.way.loss(sample).sum()

    return fisher.empirical(trained, singles, loss), "of the given targets"


def _inputs(given: Means, split: Split) -> list[Tensor] | None:
    """What the one module of a plain classifier is given, batch by batch; None where it is none."""
    recipe = given.recipe
    if recipe is None or len(given.model.modules) != 1 or not classifies(recipe):
        return None
    found: list[Tensor] = []
    good = True

    def look(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        nonlocal good
        plain = len(args) == 1 and not named and type(args[0]) is Tensor
        good = good and plain and type(output) is Tensor and output.dim() == 2
        if good:
            found.append(args[0].detach())

    handle = given.model.whole.register_forward_hook(look, with_kwargs=True)
    try:
        drawn = _some(split, given)
        for first in range(0, len(drawn), split.size):
            batch = split.fetch(drawn[first : first + split.size])
            if not given.way.serves(batch):
                return None
            given.way.loss(batch)
    finally:
        handle.remove()
    return found if good else None


def classifies(recipe: Recipe) -> bool:
    """Whether the loss is that of scores of classes, as far as its last operations tell."""
    return any((type(one.module).__name__ if one.module is not None else name_of(one.function)) in CLASSIFYING
               for one in recipe.operations)  # fmt: skip


def _some(split: Split, given: Means) -> list[int]:
    """Samples drawn without replacement, as many as were asked for."""
    most = int(given.parameters.get("samples", SAMPLES))
    if most < 1:
        raise Refused("samples is 1 at least")
    own = torch.Generator().manual_seed(given.seed)
    indices = split.indices
    return [indices[place] for place in torch.randperm(len(indices), generator=own)[:most].tolist()]


def _regmean(parents: Parents, given: Means) -> tuple[State, str]:
    grams: list[dict[str, Tensor]] = []
    for number, (name, state) in enumerate(zip(parents.names, parents.states)):
        _goes_on(given, number, len(parents.names))
        given.model.put(state)
        split = given.data[name]
        count = -(-min(int(given.parameters.get("samples", SAMPLES)), split.count) // split.size)
        batches = itertools.islice(rounds(split, given.way, given.seed), max(1, count))
        with evaluating(given):
            grams.append(regmean.gram_matrices(given.model.whole, lambda batch: given.way.loss(batch[1]), batches))
    return regmean.regmean(parents, grams, given.parameters.get("alpha", regmean.ALPHA)), ""


def _ties(parents: Parents, given: Means) -> tuple[State, str]:
    found = given.parameters
    return ties.ties(parents, found.get("density", ties.DENSITY), found.get("scale", 1.0)), ""


def _dare(parents: Parents, given: Means) -> tuple[State, str]:
    drop = given.parameters.get("drop", dare.DROP)
    return dare.dare(parents, given.seed, drop, given.weights or None), f"seed {given.seed}"


def _slerp(parents: Parents, given: Means) -> tuple[State, str]:
    return slerp.slerp(parents, given.parameters.get("t", 0.5)), ""


def _adapters(parents: Parents, given: Means) -> tuple[State, str]:
    return adapters.fuse(parents, given.weights or None), ""


def _distill(parents: Parents, given: Means) -> tuple[State, str]:
    model, steps = given.model, int(given.parameters.get("steps", STEPS))
    if len(model.modules) != 1:
        raise Refused(f"the step calls {len(model.modules)} models, and distillation wants the outputs of one")
    known = given.recipe is not None and classifies(given.recipe)
    temperature = given.parameters.get("temperature", distill.TEMPERATURE if known else 0.0) or None
    with_statistics(averaging.average(parents), parents, given)
    trained = [one for one in model.whole.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, given.parameters.get("lr", RATE))

    def teacher(state: State) -> Callable[[Any], Tensor]:
        def says(batch: Any) -> Tensor:
            with model.lent(state), evaluating(given):
                return _output(given, batch).detach()

        return says

    def student(batch: Any) -> Tensor:
        for one, training in given.way.modes:
            one.training = training
        return _output(given, batch)

    teachers = [teacher(state) for state in parents.states]
    losses = distill.distill(student, teachers, _told(given, steps), steps, optimizer, temperature=temperature)
    return model.state(), f"{steps} steps, loss {losses[0]:.4g} to {losses[-1]:.4g}"


def _told(given: Means, steps: int) -> Iterator[Any]:
    """Batches of all the parents' data in turn."""
    sources = itertools.cycle([rounds(split, given.way, given.seed) for split in _different(given.data.values())])
    for number, source in enumerate(sources):
        _goes_on(given, number, steps)
        yield next(source)[1]


def _goes_on(given: Means, done: int, of: int) -> None:
    """Tell how far it is; refused where somebody has cancelled it."""
    given.watch.progress(done, of)
    if given.watch.cancelled():
        raise Refused(f"cancelled after {done} of {of}")


def _different(splits: Iterable[Split]) -> list[Split]:
    return list({(id(one.loader), tuple(one.indices)): one for one in splits}.values())


def _output(given: Means, batch: Any) -> Tensor:
    """What the model itself gives for a batch, before the loss is made of it."""
    seen: list[Any] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(output)

    handle = given.model.whole.register_forward_hook(keep)
    try:
        given.way.loss(batch)
    finally:
        handle.remove()
    first = next(tensors(seen[0]), None) if seen else None
    if first is None or not first.is_floating_point():
        raise Refused("the model's output holds no tensor of numbers to learn")
    return first


@contextlib.contextmanager
def evaluating(given: Means) -> Generator[None, None, None]:
    """All modules of the step in evaluation mode."""
    with contextlib.ExitStack() as stack:
        for module in given.way.modules:
            stack.enter_context(statistics.evaluating(module))
        yield


_MAKERS: dict[str, Callable[[Parents, Means], tuple[State, str]]] = {
    "uniform": _averaged, "weighted": _averaged, "greedy": _greedy, "fisher": _fisher, "regmean": _regmean,
    "ties": _ties, "dare": _dare, "slerp": _slerp, "adapters": _adapters, "distill": _distill,
}  # fmt: skip
