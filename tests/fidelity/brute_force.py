"""What a loop's losses really are, from outside: the loss functions of torch watched while it runs.

Knows nothing of how OnTheFly finds losses: functions are patched, each call is computed again with ``reduction="none"``
on the spot, and the graph says which call a back-propagated number came from. Which samples they were is told by the
targets' own content.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

from tests.loops.loop import MADE

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.watching import Row

FUNCTIONS = (
    "cross_entropy", "nll_loss", "mse_loss", "binary_cross_entropy_with_logits", "l1_loss", "huber_loss", "kl_div",
    "poisson_nll_loss", "gaussian_nll_loss",
)  # fmt: skip
REDUCTIONS = ((torch, "mean"), (torch, "sum"), (torch.Tensor, "mean"), (torch.Tensor, "sum"))
KEY = "brute force"


class Loss(NamedTuple):
    """One call of a loss function, or a reduction by hand."""

    result: torch.Tensor
    elements: torch.Tensor
    """The loss of each."""
    summed: bool
    target: torch.Tensor | None

    def rows(self, count: int, axis: int = 0) -> torch.Tensor:
        """The mean (where the script sums: the sum) over each of so many rows along that axis."""
        rows = self.elements.movedim(axis, 0).reshape(count, -1)
        return rows.sum(1) if self.summed else rows.mean(1)


class Call(NamedTuple):
    """One outermost backward call."""

    number: float
    """What was back-propagated; NaN where it is not one number."""
    losses: list[Loss]
    """The calls of loss functions in its graph, nearest first; not those below another."""
    factors: list[float]
    """How the number changes with each of them: its derivative."""


class BruteForce:
    """The losses that each outermost backward call came from, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[Call] = []
        transformed: Any = torch._C  # pyright: ignore[reportPrivateUsage]
        self._transformed: Callable[[Any], bool] = transformed._functorch.is_functorch_wrapped_tensor
        for name in FUNCTIONS:
            patch.setattr(F, name, self._loss_function(getattr(F, name)))
        for owner, name in REDUCTIONS:
            patch.setattr(owner, name, self._reduction(getattr(owner, name), name))
        backward = torch.autograd.backward

        def counted(tensors: Any, *given: Any, **named: Any) -> Any:
            if torch._C._current_graph_task_id() == -1:
                self.calls.append(_found(tensors))
            return backward(tensors, *given, **named)

        patch.setattr(torch.autograd, "backward", counted)
        scale = torch.amp.GradScaler.scale

        def scales(scaler: Any, loss: Any) -> Any:
            scaled = scale(scaler, loss)
            scaled.grad_fn.metadata["brute force scale"] = scaler.get_scale()
            return scaled

        patch.setattr(torch.amp.GradScaler, "scale", scales)

    def _loss_function(self, original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        @functools.wraps(original)
        def function(x: torch.Tensor, y: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
            loss = original(x, y, *given, **named)
            if loss.grad_fn is not None and not self._transformed(x) and not loss.dim():
                with torch.no_grad(), torch._C.DisableTorchFunction():
                    each = original(x, y, *given, **{**named, "reduction": "none"})
                summed = named.get("reduction") in ("sum", "batchmean")
                node: Any = loss.grad_fn
                node.metadata[KEY] = Loss(loss, each.detach().clone(), summed, y.detach().clone())
            return loss

        return function

    def _reduction(self, original: Callable[..., torch.Tensor], name: str) -> Callable[..., torch.Tensor]:
        @functools.wraps(original)
        def reduction(*given: Any, **named: Any) -> torch.Tensor:
            result = original(*given, **named)
            x = given[0] if given else None
            if type(result) is torch.Tensor and type(x) is torch.Tensor and result.grad_fn is not None:
                node: Any = result.grad_fn
                if result.dim() or not x.dim() or self._transformed(x) or _is_penalty(x):
                    return result
                if KEY not in node.metadata:
                    node.metadata[KEY] = Loss(result, x.detach().clone(), name == "sum", None)
            return result

        return reduction

    def check(self, rows: list[Row], *, names_known: bool = True) -> None:
        """Every record with values has the right ones; and the samples that it names have the loss's targets.

        ``names_known``: the data sets are of :mod:`tests.loops`.
        """
        assert len(rows) == len(self.calls)
        for row, call in zip(rows, self.calls):
            assert row.loss == call.number or row.loss != row.loss
            if row.certificate == "none":
                assert len(row.losses) == 0
                assert row.reason
                continue
            assert call.losses, "values of a loss that is none"
            axis = _check_values(row, call)
            targets = [loss.target.movedim(axis, 0) for loss in call.losses if loss.target is not None]
            if targets and len(targets[0]) < len(row.samples) and len(call.losses) > 1:
                targets = [torch.cat(targets)]
            if row.identity == "index" and names_known and targets and not _is_numbering(targets[0]):
                assert any(self.names(row, target) for target in targets), (
                    f"backward {row.backward}: the samples named are not those of the batch"
                )

    def names(self, row: Row, target: torch.Tensor) -> bool:
        """Whether the targets of one of the loop's data sets, at the indices of the record, are the loss's."""
        target = target.double().reshape(len(row.samples), -1)
        for made in MADE:
            if not 0 <= min(row.samples) <= max(row.samples) < len(made):
                continue
            for tensor in made.tensors:
                named = tensor[row.samples].double().reshape(len(target), -1)
                shifted = named[:, 1:]  # the next word
                one_hot = (
                    named.shape[1] == 1 and target.shape[1] > 1 and torch.equal(target.argmax(1), named[:, 0].long())
                )
                if one_hot or any(
                    part.shape == target.shape and torch.equal(part, target) for part in (named, shifted)
                ):
                    return True
        return False


def _is_penalty(x: torch.Tensor) -> bool:
    """A power of a parameter."""
    node: Any = x.grad_fn
    made = node.next_functions[0][0] if node is not None and node.name() == "PowBackward0" else None
    return made is not None and made.name().endswith("AccumulateGrad")


def _is_numbering(target: torch.Tensor) -> bool:
    """A target that says 0, 1, 2, ... (of a contrast within the batch) tells nothing."""
    return target.dim() == 1 and torch.equal(target, torch.arange(len(target)))


def _check_values(row: Row, call: Call) -> int:
    """Compare; and the axis of the samples, where a loss was transposed."""
    found, errors = torch.tensor(row.losses), list[AssertionError]()
    count = len(found)
    losses = [(loss, factor) for loss, factor in zip(call.losses, call.factors)
              if (factor and loss.elements.numel() % count == 0 and count in (loss.elements.shape or (0,)))
              or len(call.losses) == 1]  # fmt: skip
    if not losses:  # of several batches, one below the other
        losses = list(zip(call.losses, call.factors))
        parts = [loss.rows(len(loss.elements)) * factor * (1 if loss.summed else count / len(loss.elements))
                 for loss, factor in losses]  # fmt: skip
        torch.testing.assert_close(found, torch.cat(parts).float(), rtol=1e-5, atol=1e-6)
        return 0
    means = any(not loss.summed for loss, _ in losses)
    for axis in (0, 1):
        if any(loss.elements.dim() <= axis for loss, _ in losses):
            continue
        expected = torch.zeros(count, dtype=torch.float64)
        for loss, factor in losses:
            part = loss.rows(count, axis).double() * factor
            expected += part * count if loss.summed and means else part
        plain = len(losses) == 1 and losses[0][1] == 1 and found.numel() == losses[0][0].elements.shape[axis]
        try:
            if plain:
                torch.testing.assert_close(
                    found, losses[0][0].rows(count, axis).float(), rtol=0, atol=0, equal_nan=True
                )
            else:
                torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6, equal_nan=True)
        except AssertionError as error:
            errors.append(error)
        else:
            return axis
    raise errors[0]


def _found(tensors: Any) -> Call:
    """The number that is back-propagated, and the losses in its graph."""
    roots: list[Any] = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
    pending, losses, seen = [root.grad_fn for root in roots], list[Loss](), set[Any]()
    while pending:
        node = pending.pop(0)
        if node is None or node in seen:
            continue
        seen.add(node)
        loss = node.metadata.get(KEY)
        if loss is not None:
            losses.append(loss)
        else:
            pending += [following for following, _ in node.next_functions]
    if any(root.numel() != 1 for root in roots):
        return Call(float("nan"), losses, [1.0] * len(losses))
    made: Any = roots[0].grad_fn
    root = roots[0] if len(roots) == 1 else torch.stack([root.reshape(()) for root in roots]).sum()
    scale = made.metadata.get("brute force scale", 1.0) if made else 1.0
    factors = [1.0] * len(losses)
    if losses and not (len(losses) == 1 and losses[0].result is root):
        try:
            slopes = torch.autograd.grad(
                root, [loss.result for loss in losses], retain_graph=True, materialize_grads=True
            )
        except RuntimeError:  # the graph was freed: the script is about to hear it
            slopes = ()
        factors = [float(slope) / scale for slope in slopes] or factors
    return Call(float(root.detach()) / scale, losses, factors)
