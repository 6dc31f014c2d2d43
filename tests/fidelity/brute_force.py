"""What a loop's losses really are, from outside: the loss functions of torch watched while it runs.

Knows nothing of how OnTheFly finds losses: functions are patched, each call is computed again with ``reduction="none"``
on the spot, and the graph says which call a back-propagated number came from. Which samples they were is told by the
targets' own content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

from tests.loops.loop import MADE

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.watching import Row

FUNCTIONS = ("cross_entropy", "nll_loss", "mse_loss", "binary_cross_entropy_with_logits")


class Loss(NamedTuple):
    """One call of a loss function."""

    value: float
    rows: torch.Tensor
    """The mean (where the script sums: the sum) over each row, [rows]."""
    target: torch.Tensor


class BruteForce:
    """The losses that each outermost backward call came from, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[float, list[Loss]]] = []
        """The back-propagated number (NaN where it is none), and the calls of loss functions in its graph."""
        self._depth = 0
        transformed: Any = torch._C  # pyright: ignore[reportPrivateUsage]
        self._transformed: Callable[[Any], bool] = transformed._functorch.is_functorch_wrapped_tensor
        for name in FUNCTIONS:
            patch.setattr(F, name, self._loss_function(getattr(F, name)))
        backward = torch.autograd.backward

        def counted(tensors: Any, *given: Any, **named: Any) -> Any:
            if torch._C._current_graph_task_id() == -1:
                self.calls.append(_found(tensors))
            return backward(tensors, *given, **named)

        patch.setattr(torch.autograd, "backward", counted)

    def _loss_function(self, original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def function(x: torch.Tensor, y: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
            loss = original(x, y, *given, **named)
            if loss.grad_fn is not None and not self._transformed(x):
                with torch.no_grad(), torch._C.DisableTorchFunction():
                    each = original(x, y, *given, **{**named, "reduction": "none"})
                    each = each.reshape(len(each), -1)
                    each = each.sum(1) if named.get("reduction") == "sum" else each.mean(1)
                node: Any = loss.grad_fn
                node.metadata["brute force"] = Loss(float(loss.detach().mean()), each.clone(), y.detach().clone())
            return loss

        return function

    def check(self, rows: list[Row], *, names_known: bool = True) -> None:
        """Every record with values has the right ones; and the samples that it names have the loss's targets.

        ``names_known``: the data sets are of :mod:`tests.loops`.
        """
        assert len(rows) == len(self.calls)
        for row, (root, losses) in zip(rows, self.calls):
            assert row.loss == root or row.loss != row.loss
            if row.certificate == "none":
                assert len(row.losses) == 0
                assert row.reason
                continue
            assert len(losses) == 1, "values of a loss that is made of several, or of none"
            loss, found = losses[0], torch.tensor(row.losses)
            untouched = loss.value == root or root != root
            expected = loss.rows if untouched else loss.rows * (root / loss.value)
            tolerance = 0.0 if untouched else 2e-6
            torch.testing.assert_close(found, expected.float(), rtol=tolerance, atol=0.0, equal_nan=True)
            if row.identity == "index" and names_known:
                assert self.names(row, loss.target), (
                    f"backward {row.backward}: the samples named are not those of the batch"
                )

    def names(self, row: Row, target: torch.Tensor) -> bool:
        """Whether the targets of one of the loop's data sets, at the indices of the record, are the loss's."""
        return any(
            0 <= min(row.samples) <= max(row.samples) < len(made)
            and torch.equal(
                made.tensors[1][row.samples].double().reshape(len(target), -1), target.double().reshape(len(target), -1)
            )
            for made in MADE
            if made.tensors[1][:1].numel() == target[:1].numel()
        )


def _found(tensors: Any) -> tuple[float, list[Loss]]:
    """The number that is back-propagated, and all loss calls in its graph, nearest first; not those below another."""
    roots: list[Any] = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
    pending, losses, seen = [root.grad_fn for root in roots], [], set()
    while pending:
        node = pending.pop(0)
        if node is None or node in seen:
            continue
        seen.add(node)
        loss = node.metadata.get("brute force")
        if loss is not None:
            losses.append(loss)
        else:
            pending += [following for following, _ in node.next_functions]
    single = len(roots) == 1 and roots[0].numel() == 1
    return float(roots[0].detach()) if single else float("nan"), losses
