"""What all samples of a split say together: loss, accuracy by class, confusion matrix, residuals, perplexity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.capture.margins import measured
from onthefly.capture.reading import reshape, to_double, to_host, to_long

if TYPE_CHECKING:
    from onthefly.insight.reading import Read

MAX_CONFUSION = 100
"""Classes up to which the whole matrix is shown; above it the accuracy of each class."""

MAX_CLASSES = 1000

FLAT = "predictions of a batch that was filled up are not counted: nothing tells which are whose"

BINS = 41
"""Of the histogram of residuals."""


class Classes:
    """Scores and classes of one batch."""

    def __init__(self, scores: Tensor, target: Tensor, counted: Tensor, losses: Tensor) -> None:
        """Log-probabilities [rows, classes, ...], targets [rows, ...], which of them count, losses [rows, ...]."""
        self.scores, self.target, self.counted, self.losses = scores, target, counted, losses
        self.number = scores.shape[1]
        self.predicted = scores.argmax(1)

    @classmethod
    def of_two(cls, given: Tensor, target: Tensor, edge: float, losses: Tensor) -> Classes:
        """Of one number a sample: class 1 above an edge."""
        above = given - edge
        return cls(torch.stack([-above, above], 1), to_long(target), torch.ones_like(target, dtype=torch.bool), losses)

    def of_samples(self, rows: int) -> tuple[Tensor | None, Tensor | None]:
        """Target and prediction of each sample, where it has one."""
        if self.target.shape != (rows,):
            return None, None
        return to_host(to_double(self.target)), to_host(to_double(self.predicted))

    def is_by_rows(self, batch: Read) -> bool:
        """Whether the elements of each sample follow on each other: their losses must give that of the sample."""
        rows = batch.rows
        if self.target.shape[0] == rows:
            return True
        if batch.values is None or self.losses.numel() % rows:
            return False
        losses = to_double(reshape(self.losses.data * self.counted, (rows, -1)))
        counts = reshape(self.counted, (rows, -1)).sum(1).clamp(min=1)
        return torch.allclose(to_host(losses.sum(1) / counts), to_double(batch.values), rtol=1e-4)

    def sureness(self) -> tuple[Tensor, Tensor]:
        """Confidence and margin [rows]; NaN where a row counts for nothing."""
        confidence, margin = measured(self.scores[None], self.target[None])
        left_out = ~self.counted
        return (
            to_host(confidence[0].masked_fill_(left_out, torch.nan)),
            to_host(margin[0].masked_fill_(left_out, torch.nan)),
        )


class Numbers:
    """Predicted and wanted numbers of one batch."""

    def __init__(self, predicted: Tensor, target: Tensor) -> None:
        self._leading = predicted.shape[0] if predicted.dim() else 0
        self.residual = reshape(to_double(predicted.data - target.data), (-1,))
        self.target = reshape(to_double(target.data), (-1,))

    def is_by_rows(self, batch: Read) -> bool:
        """Whether the first axis is that of samples."""
        return self._leading == batch.rows


class Tally:
    """Adds batches up; its memory does not grow with them."""

    def __init__(self) -> None:
        self.rows = 0
        """Samples that have a loss."""
        self._loss = self._weight = 0.0
        self._unread: dict[str, int] = {}
        self._confusion: Tensor | None = None
        self._right = self._counted = 0
        self._tokens = 0.0
        self._more_than_one = False
        self._residuals = [0.0] * 4
        """Number, sum, sum of squares, sum of absolute values."""
        self._targets = [0.0, 0.0]
        self._extent = [math.inf, -math.inf]
        self._histogram: Tensor | None = None
        self._edge = 0.0

    def add(self, batch: Read, rows: int) -> None:
        """One batch, of which so many rows count."""
        if batch.values is None:
            if math.isfinite(batch.loss):
                self._loss += batch.loss * rows
                self._weight += rows
            self._unread[batch.reason] = self._unread.get(batch.reason, 0) + rows
            return
        self.rows += rows
        values = to_double(batch.values[:rows])
        self._loss += values.sum().item()
        self._weight += rows
        if batch.seen is not None and rows != batch.rows and not batch.seen.is_by_rows(batch):
            self._unread[FLAT] = self._unread.get(FLAT, 0) + rows
        elif isinstance(batch.seen, Classes):
            self._add_classes(batch.seen, rows, batch.rows)
        elif isinstance(batch.seen, Numbers):
            self._add_numbers(batch.seen, rows, batch.rows)

    def _add_classes(self, seen: Classes, rows: int, of: int) -> None:
        share = rows / of if of else 0
        size = round(len(seen.target) * share)
        target, predicted, counted = seen.target[:size], seen.predicted[:size], seen.counted[:size]
        target, predicted = target[counted], predicted[counted]
        self._more_than_one = self._more_than_one or seen.target.numel() != of
        self._counted += target.numel()
        self._right += int((target == predicted).sum())
        losses = seen.losses.data[:size]
        self._tokens += to_double(losses[counted]).sum().item()
        if seen.number <= MAX_CLASSES:
            pairs = torch.bincount(torch.add(predicted, target, alpha=seen.number), minlength=seen.number**2)
            pairs = to_host(pairs).view(seen.number, seen.number)
            same = self._confusion is not None and self._confusion.shape == pairs.shape
            self._confusion = self._confusion + pairs if self._confusion is not None and same else pairs

    def _add_numbers(self, seen: Numbers, rows: int, of: int) -> None:
        size = len(seen.residual) * rows // of if of else 0
        residual, target = to_host(seen.residual[:size]), to_host(seen.target[:size])
        if not size:
            return
        for place, number in enumerate((float(size), residual.sum(), (residual**2).sum(), residual.abs().sum())):
            self._residuals[place] += float(number)
        self._targets[0] += float(target.sum())
        self._targets[1] += float((target**2).sum())
        self._extent = [min(self._extent[0], float(residual.min())), max(self._extent[1], float(residual.max()))]
        if self._histogram is None:
            self._edge = 4 * float((residual**2).mean().sqrt()) or 1.0
            self._histogram = torch.zeros(BINS, dtype=torch.float64)
        self._histogram += torch.histc(residual.clamp(-self._edge, self._edge), BINS, -self._edge, self._edge)

    def result(self) -> dict[str, Any]:
        """As it is stored and shown: numbers that are none are left out."""
        found: dict[str, Any] = {"loss": self._loss / self._weight if self._weight else None}
        if self._unread:
            found["unread"] = dict(sorted(self._unread.items(), key=lambda item: -item[1])[:5])
        if self._counted:
            found["accuracy"], found["error"] = self._right / self._counted, 1 - self._right / self._counted
        confusion = self._confusion
        if confusion is not None and self._counted:
            totals, right = confusion.sum(1).tolist(), confusion.diagonal().tolist()
            found["per_class"] = [
                {"class": place, "count": count, "accuracy": hits / count if count else None}
                for place, (count, hits) in enumerate(zip(totals, right))
            ]
            if len(totals) <= MAX_CONFUSION:
                found["confusion"] = confusion.tolist()
        if self._counted and self._more_than_one:
            per_token = self._tokens / self._counted
            found["perplexity"] = math.exp(per_token) if per_token < 700 else None
        if self._residuals[0] and self._histogram is not None:
            found["residuals"] = self._of_residuals()
        return {name: value for name, value in found.items()
                if value is not None and (not isinstance(value, float) or math.isfinite(value))}  # fmt: skip

    def _of_residuals(self) -> dict[str, Any]:
        count, total, squares, absolute = self._residuals
        spread = self._targets[1] - self._targets[0] ** 2 / count
        assert self._histogram is not None
        found = {
            "count": int(count), "mean": total / count, "rmse": math.sqrt(squares / count), "mae": absolute / count,
            "min": self._extent[0], "max": self._extent[1], "r2": 1 - squares / spread if spread > 0 else math.nan,
        }  # fmt: skip
        plain = {name: value for name, value in found.items() if math.isfinite(value)}
        return {**plain, "edge": self._edge, "histogram": [int(number) for number in self._histogram.tolist()]}
