"""What the loaders' data sets hold: duplicates, classes out of balance, constant inputs, test samples trained on.

Samples are fetched by index in this process, for so many seconds at most, spread over the whole set; of each a hash of
eight bytes is kept, so that memory is bounded (:data:`MAX_SAMPLES` of each loader). Samples are equal where their
inputs are, bit for bit. Where a data set gives another input for the same index (augmentation), contents cannot be
compared, and that is said.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from onthefly.capture.datasets import Numbering, root_of
from onthefly.errors import outcome
from onthefly.health.contents import sample
from onthefly.health.fetching import as_it_was, places, spread
from onthefly.health.scene import MAX_ROWS, Answer, undisturbed

if TYPE_CHECKING:
    from onthefly.health.contents import Sample
    from onthefly.health.scene import Scene

MAX_SAMPLES, MAX_CLASSES = 200_000, 10_000
PROGRESS = 64
"""Samples from one look at whether it is cancelled to the next."""

MAX_ELEMENTS = 1 << 20
"""Of an input, up to which it is looked at whether each of its numbers ever changes."""

UNBALANCED = 10.0
"""The largest class by the smallest, from which it is told."""

DUPLICATES = 0.001
"""Share of samples that another one equals, from which it is told."""


class Content:
    """Of the samples of one loader."""

    def __init__(self, name: str, loader: Any) -> None:
        self.name = name
        self.dataset: Any = getattr(loader, "dataset", getattr(loader, "_dataset", None))
        self.places = places(loader)
        self.first: dict[bytes, int] = {}
        """Index in the root data set of the first sample of each content."""
        self.pairs: list[tuple[int, int]] = []
        """Samples that another one equals, and which."""
        self.conflicts = self.copies = self.blank = self.nonfinite = self.seen = 0
        self.classes: Counter[int] = Counter()
        self._targets: dict[bytes, Any] = {}
        self._low: Any = None
        self._high: Any = None
        self.random = False
        """The same index gives another input each time."""
        self.fault = ""

    @property
    def complete(self) -> bool:
        """Every sample was looked at."""
        return self.places is not None and self.seen == len(self.places)

    @property
    def constant(self) -> int:
        """Numbers of the input that are the same in all samples."""
        if self._low is None or self.seen < 2:
            return 0
        return int((self._low == self._high).sum())

    @property
    def elements(self) -> int:
        """Numbers of an input, where all have one shape."""
        return 0 if self._low is None else self._low.numel()

    def read(self, scene: Scene, until: float) -> None:
        """Look at samples until that time."""
        if self.places is None or not len(self.places):
            return
        numbering = Numbering(self.dataset, copied=False)
        with as_it_was(self.dataset), undisturbed():
            first = [outcome(self._fetch, 0)[0] for _ in range(2)]
            self.random = None not in first and first[0].input != first[1].input
            for place in spread(len(self.places)):
                if self.seen >= MAX_SAMPLES or time.monotonic() > until:
                    return
                if self.seen % PROGRESS == 0:
                    scene.progress(self.seen, min(len(self.places), MAX_SAMPLES), f"data: {self.name}")
                found, fault = outcome(self._fetch, place)
                if fault is not None:
                    self.fault = f"sample {self.places[place]}: {type(fault).__name__}: {fault}"[:300]
                    return
                index = int(self.places[place])
                self._note((numbering.root([index]) or [index])[0], found)

    def _fetch(self, place: int) -> Sample:
        return sample(self.dataset[self.places[place]])

    def _note(self, index: int, found: Sample) -> None:
        self.seen += 1
        self.blank += found.blank
        self.nonfinite += found.nonfinite > 0
        if found.target is not None and len(self.classes) < MAX_CLASSES:
            self.classes[found.target] += 1
        if found.numbers is not None and found.numbers.numel() <= MAX_ELEMENTS:
            self._widen(found.numbers)
        if self.random:
            return
        before = self.first.setdefault(found.input, index)
        if before == index:
            self._targets[found.input] = found.target
            return
        self.copies += 1
        self.conflicts += self._targets[found.input] != found.target
        if len(self.pairs) < MAX_ROWS:
            self.pairs.append((min(before, index), max(before, index)))

    def _widen(self, numbers: torch.Tensor) -> None:
        if self._low is None and self.seen == 1:
            self._low, self._high = numbers.clone(), numbers.clone()
        elif self._low is not None and self._low.shape == numbers.shape and self._low.device == numbers.device:
            self._low, self._high = torch.minimum(self._low, numbers), torch.maximum(self._high, numbers)
        else:  # inputs of several shapes
            self._low = self._high = None


def look(scene: Scene) -> Answer:
    """At the data sets of all loaders, in equal times; what one leaves of its time the next ones have."""
    contents = [Content(name, loader) for name, loader in scene.loaders]
    contents = [content for content in contents if content.places is not None and len(content.places)]
    until = time.monotonic() + scene.seconds
    for number, content in enumerate(contents):
        now = time.monotonic()
        content.read(scene, now + max(until - now, 0.0) / (len(contents) - number))
    if not contents:
        why = "they are streams, or have no length" if scene.loaders else "the script has made no loader"
        return Answer("unknown", f"no data set can be read by index: {why}")
    return _judged(contents)


def _judged(contents: list[Content]) -> Answer:
    """The first is trained on."""
    trained, others = contents[0], contents[1:]
    shared = {content.name: overlap(trained, content) for content in others}
    rows = [_row(content, shared.get(content.name)) for content in contents]
    rows += [{"loader": content.name, "samples": f"{one} = {two}"}
             for content in contents for one, two in content.pairs[:20]]  # fmt: skip
    rows += [{"loader": f"{trained.name} and {name}", "samples": f"{one} = {two}"}
             for name, pairs in shared.items() for one, two in pairs[:20]]  # fmt: skip
    most = max((max(content.classes.values()) / min(content.classes.values()) for content in contents
                if len(content.classes) > 1), default=1.0)  # fmt: skip
    numbers: dict[str, Any] = {
        "loaders": len(contents), "looked_at": sum(content.seen for content in contents),
        "samples": sum(len(content.places) for content in contents),
        "duplicates": sum(content.copies for content in contents),
        "conflicting_labels": sum(content.conflicts for content in contents),
        "overlap": sum(map(len, shared.values())), "blank": sum(content.blank for content in contents),
        "nonfinite": sum(content.nonfinite for content in contents), "imbalance": most,
    }  # fmt: skip
    findings = [found for content in contents for found in _of_one(content)]
    findings += [found for content in others for found in _of_two(trained, content, shared[content.name])]
    findings.sort(key=lambda found: ("bad", "warning", "good").index(found[0]))
    partial = [f"{content.name}: {content.seen:,} of {len(content.places):,} samples were looked at"
               for content in contents if not content.complete]  # fmt: skip
    varying = [content.name for content in contents if content.random]
    if varying:
        partial.append(f"{', '.join(varying)} gives another input each time: contents cannot be compared")
    if findings:
        verdict: Any = findings[0][0]
        return Answer(verdict, "; ".join([*(text for _, text, _ in findings[:4]), *partial]),
                      "; ".join(dict.fromkeys(do for kind, _, do in findings[:4] if kind != "good")),
                      numbers, rows)  # fmt: skip
    looked = numbers["looked_at"]
    if not looked:
        return Answer("unknown", "; ".join(partial), "give it more time: --seconds 60", numbers, rows)
    says = f"{looked:,} samples: no duplicates, no overlap, nothing constant"
    return Answer("good", "; ".join([says, *partial]), "", numbers, rows)


def _row(content: Content, shared: list[tuple[int, int]] | None) -> dict[str, Any]:
    return {
        "loader": content.name, "samples": len(content.places), "looked_at": content.seen,
        "duplicates": content.copies, "overlap": None if shared is None else len(shared),
        "classes": len(content.classes), "blank": content.blank, "nonfinite": content.nonfinite,
        "constant": content.constant, "fault": content.fault,
    }  # fmt: skip


def _of_one(content: Content) -> list[tuple[str, str, str]]:
    """Verdict, what was found, what to do."""
    found: list[tuple[str, str, str]] = []
    name, seen = content.name, content.seen
    if content.fault:
        found.append(("bad", f"{name} cannot be read: {content.fault}", "mend or leave out that sample"))
    if not seen:
        return found
    if content.nonfinite:
        found.append(("bad", f"{content.nonfinite} samples of {name} have numbers that are not finite",
                      "replace or leave them out before they reach the model"))  # fmt: skip
    if content.elements and content.constant == content.elements and seen > 1:
        found.append(("bad", f"all {seen} inputs of {name} are the same", "look at what its data set returns"))
    elif content.copies:
        pair = content.pairs[0]
        wrong = f", {content.conflicts} of them with another label" if content.conflicts else ""
        often = content.copies > DUPLICATES * seen or content.conflicts
        found.append(("warning" if often else "good", f"{content.copies} of {seen} samples of {name} equal another one "
                      f"(as {pair[0]} and {pair[1]}){wrong}", "leave duplicates out, settle their labels"))  # fmt: skip
    if content.blank:
        found.append(("warning", f"{content.blank} inputs of {name} are of one constant value", "leave them out"))
    counts = content.classes
    if len(counts) > 1 and len(counts) < MAX_CLASSES:
        (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
        if many > UNBALANCED * few and many > UNBALANCED * 2:
            found.append(("warning", f"classes of {name} are out of balance: {many} samples of {most}, {few} of "
                          f"{least}", "weigh the loss by class, or draw with a WeightedRandomSampler"))  # fmt: skip
    return found


def _of_two(trained: Content, other: Content, shared: list[tuple[int, int]]) -> list[tuple[str, str, str]]:
    if not shared:
        return []
    if _same_root(trained, other) and all(one == two for one, two in shared) and len(shared) == other.seen:
        return [("warning", f"{other.name} delivers samples that {trained.name} trains on, {len(shared)} of them",
                 "this is no test of anything new, if it is meant as one")]  # fmt: skip
    one, two = shared[0]
    return [("bad", f"{len(shared)} samples of {other.name} are among those of {trained.name} (as {two} and {one})",
             "split anew, by content: what is tested must not be trained on")]  # fmt: skip


def overlap(one: Content, other: Content) -> list[tuple[int, int]]:
    """Samples of both with one content: index in the one, index in the other."""
    return [(one.first[key], index) for key, index in other.first.items() if key in one.first]


def _same_root(one: Content, other: Content) -> bool:
    return root_of(one.dataset) is root_of(other.dataset)
