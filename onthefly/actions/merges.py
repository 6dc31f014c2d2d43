"""Several runs side by side, and one model made of them: the commands ``compare`` and ``merge``."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import torch

from onthefly.actions.insight import Ask, Weights
from onthefly.actions.runs import attempted
from onthefly.core.expected import MERGE
from onthefly.errors import Refused
from onthefly.insight.sources import as_they_were
from onthefly.merging.parents import Parents
from onthefly.merging.table import strategy
from onthefly.protocol import Branch, arguments, plain
from onthefly.runs.making import Means, check, make
from onthefly.runs.model import Model
from onthefly.runs.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from onthefly.actions.runs import Runs
    from onthefly.core.gate import Place
    from onthefly.insight.split import Split
    from onthefly.merging.parents import State
    from onthefly.merging.table import Strategy
    from onthefly.state.ring import Entry


class Merges:
    """The commands."""

    def __init__(self, runs: Runs) -> None:
        self._runs, self._desk = runs, runs.desk
        runs.desk.gate.register("compare", self.compare)
        runs.desk.gate.register("merge", self.merge)

    # -- compare

    def compare(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``compare``."""
        self._runs.check("a comparison")
        self._held(given.runs)
        self._desk.insight.split("test", given)
        return self._runs.when_ready(
            "the comparison", moment, by, lambda now: self._compare(given, now, by), lambda _: "the comparison is made"
        )

    def _compare(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        split = self._desk.insight.split("test", given)
        labels: dict[str, str] = {}
        for run in given.runs:
            labels[run], _ = self._tested(run, *self._runs.values(run), split, moment, by)
        return {"evaluations": labels, "loader": split.name}

    def _tested(
        self, run: str, step: int, values: dict[int, Tensor], split: Split, moment: Place, by: str
    ) -> tuple[str, Tensor]:
        """Label of a test of that run, and the losses of its samples, in the order of the split."""
        insight = self._desk.insight
        ask = Ask("test", insight.label("test"), arguments("test", {}), by)
        info, losses = insight.evaluate(ask, moment, insight.stepping, split, Weights(run, step, values))
        if info.partial:
            raise Refused(f"the test of {run} did not come to its end: {info.reason}")
        return ask.label, torch.cat(losses) if losses else torch.empty(0)

    def _held(self, runs: Sequence[str]) -> None:
        if len(set(runs)) < len(runs):
            raise Refused("a run is named twice")
        for run in runs:
            if run != self._desk.ties.run():
                self._runs.left(run)

    # -- merge

    def merge(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """The command ``merge``."""
        row = strategy(given.strategy)
        self._runs.check("a merge")
        check(row, given.parameters, given.weights)
        self._held(given.runs)
        self._runs.check_name(given.name)
        held, trained = self._desk.insight.split("test", given), self._trained()
        same = held.loader.dataset is trained.loader.dataset  # two samplers may share it out
        if held.loader is trained.loader or (same and not set(held.indices).isdisjoint(trained.indices)):
            raise Refused(f"{held.name} is what the runs were trained on: on it nothing shows whether a model is worse",
                          "name a loader that is not: --loader")  # fmt: skip
        return self._runs.when_ready(
            "the merge",
            moment,
            by,
            lambda now: self._merge(given, now, by),
            lambda made: f"{made['run']}: {made['verdict']}",
        )

    def _trained(self) -> Split:
        return self._desk.insight.split("scan", arguments("scan", {}))

    def _merge(self, given: Any, moment: Place, by: str) -> dict[str, Any]:
        """Make it and test it; where it is not taken, or something fails, all is as before."""
        desk, ties, row = self._desk, self._desk.ties, strategy(given.strategy)
        model = Model(desk.insight.way(desk.insight.stepping).modules)
        steps = {run: self._runs.values(run) for run in given.runs}
        parents = Parents(
            {run: model.state(values or None) for run, (_, values) in steps.items()},
            self._base(given.runs, model) if "base" in row.needs else None,
        )
        optimizers = self._optimizers(given, model)
        split, before = desk.insight.split("test", given), ties.run()
        name = given.name or ties.lineage.free(MERGE)
        labels: dict[str, str] = {}
        losses: dict[str, Tensor] = {}
        for run, (step, values) in steps.items():
            labels[run], losses[run] = self._tested(run, step, values, split, moment, by)
        entry, stands = self._runs.leave(moment), desk.recipes.good(moment) is not None
        try:
            state, note = self._made(row, parents, model, given, split)
            desk.checkpoints.back_to(entry, by, "")
            labels[name], merged = self._tested(name, moment.step, model.values(state), split, moment, by)
            verdict = judge(merged, losses, split.name)
            if not verdict.good and not given.force:
                raise Refused(f"the merged model is not taken: {verdict.text}", "force takes it all the same")
            ties.lineage.began(name)
            desk.checkpoints.branch()
            model.put(state)
            for change in optimizers:
                change()
        except BaseException:
            self._runs.undo(entry, before, by)
            if stands:
                desk.recipes.stands_at(ties.place())
            raise
        if stands:
            desk.recipes.stands_at(ties.place())
        text = f"{verdict.text}{'; taken by force' if not verdict.good else ''}{f' ({note})' if note else ''}"
        ties.lineage.tell(Branch(
            run=name, parent=before, step=moment.step, kind="merge", parents=list(given.runs), loader=split.name,
            strategy=row.name, changes=dict(given.parameters), verdict=text, by=by, time=time.time(),
        ))  # fmt: skip
        desk.journal("merge", plain(given), by, {"after": {"run": name, "verdict": text}})
        return {"run": name, "verdict": text, "evaluations": labels, "taken": True}

    def _made(self, row: Strategy, parents: Parents, model: Model, given: Any, held: Split) -> tuple[State, str]:
        desk = self._desk
        way, trained = desk.insight.way(desk.insight.stepping), self._trained()
        data: dict[str, Split] = {}
        for run in given.runs:
            origin = self._runs.origins.get(run)
            data[run] = origin.split if origin is not None and origin.split is not None else trained
        sources = [part for split in (trained, held) for part in (split.loader.dataset, split.loader.collate_fn)]
        with (
            desk.recipes.work.under_way("the merge") as watch,
            desk.ties.lender().lent(trained.loader, trained.name), as_they_were(sources),
        ):  # fmt: skip
            means = Means(model, way, desk.recipes.recipe, data, trained, held, given.parameters, given.weights,
                          given.seed, watch)  # fmt: skip
            return attempted("the merge", lambda: make(row, parents, means))

    def _base(self, runs: Sequence[str], model: Model) -> State:
        """The newest moment that all of them have gone through."""
        lines = {run: self._line(run) for run in runs}
        known = sorted(itertools.chain(*lines.values()), key=lambda entry: -entry.place.step)
        for entry in known:
            if all(self._went_through(entry, run, line) for run, line in lines.items()):
                if entry.snapshot is None:
                    raise Refused(f"the model that all began from ({entry.name}) is not in memory any more")
                return model.state(entry.snapshot.snapshot.values())
        raise Refused("these runs have no beginning in common that is known", "fork them from one moment")

    def _line(self, run: str) -> list[Entry]:
        """The moments that a run and those before it began from, newest first."""
        found: list[Entry] = []
        origin = self._runs.origins.get(run)
        while origin is not None:
            found.append(origin.entry)
            origin = self._runs.origins.get(origin.parent)
        return found

    def _went_through(self, entry: Entry, run: str, line: Sequence[Entry]) -> bool:
        """Whether that moment is one of the run itself, or of those that it began from."""
        own = entry.place.run == run and entry.place.step <= self._runs.values(run)[0]
        return own or any(entry.place == other.place for other in line)

    def _optimizers(self, given: Any, model: Model) -> list[Callable[[], None]]:
        """What becomes of the state of the optimizers that train the model."""
        parameters = {id(one) for one in model.whole.parameters()}
        concerned = [
            one for one in self._desk.optimizers.living()
            if any(id(each) in parameters for group in one.param_groups for each in group["params"])
        ]  # fmt: skip
        if given.optimizer == "keep":
            return []
        if given.optimizer == "reset":
            return [one.state.clear for one in concerned]
        held = [self._runs.values(run)[1] for run in given.runs]
        found: list[Callable[[], None]] = []
        for optimizer in concerned:
            for state in optimizer.state.values():
                for name, value in state.items():
                    if isinstance(value, torch.Tensor) and value.is_floating_point():
                        found.append(_mean_of(name, value, held))
        return found


def _mean_of(name: str, live: Tensor, held: Sequence[dict[int, Tensor]]) -> Callable[[], None]:
    """Sets one number of an optimizer's state to the mean of what the parents have."""
    known = [values.get(id(live)) if values else live for values in held]
    parts = [one.detach().to(live.device).double() for one in known if one is not None and one.shape == live.shape]
    if len(parts) < len(known):
        raise Refused(
            f"not all of the runs have {name} in their optimizer's state", "reset it, or keep the current one"
        )
    mean = torch.stack(parts).mean(0)

    def change() -> None:
        with torch.no_grad():
            live.copy_(mean)

    return change
