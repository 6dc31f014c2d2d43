"""Per-sample losses read back out of the autograd graph.

A reduction's node keeps what it was computed from in its ``_saved_*`` attributes. The per-sample loss is the same ATen
operator on those tensors with ``reduction="none"``, so that no loss function is patched, however the script imported
it. Never a ``gather`` of our own: an ignored target is out of range, which is fatal on CUDA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

NONE, MEAN, SUM = 0, 1, 2
"""``reduction`` as ATen counts it."""

_nn: Any = torch._C._nn  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]


class Kept(NamedTuple):
    """What is kept of one reduction until its block is worked off."""

    reader: Reader
    tensors: tuple[Any, ...]
    """The operator's tensors, detached; None where it was given none."""
    options: tuple[Any, ...]
    """The operator's further arguments, reduction first."""

    @property
    def reduction(self) -> int:
        """The script's own reduction: ``NONE``, ``MEAN`` or ``SUM``."""
        return self.options[0]

    @property
    def target(self) -> Tensor:
        """The tensor that tells which batch this loss belongs to."""
        return self.tensors[1]


class Reader:
    """How one kind of node is read: a row of :data:`READERS`."""

    def __init__(self, operator: Callable[..., Tensor], tensors: str, options: str = "") -> None:
        """``tensors`` and ``options`` name the ``_saved_*`` attributes: input and target first; reduction is implied."""
        self._operator = operator
        self._tensor_names = tuple(f"_saved_{name}" for name in tensors.split())
        self._option_names = tuple(f"_saved_{name}" for name in f"reduction {options}".split())

    def keep(self, node: Any) -> Kept:
        """Take references to what the node saved; nothing is computed and no graph is held."""
        tensors = tuple([_detached(getattr(node, name)) for name in self._tensor_names])
        return Kept(self, tensors, tuple([getattr(node, name) for name in self._option_names]))

    def rows(self, kept: Kept) -> int:
        """How many rows the loss has; -1 if it has no row axis."""
        return kept.target.shape[0] if kept.target.dim() > 0 else -1

    def run(self, kept: Kept, reduction: int) -> Tensor:
        """The operator again, on the same tensors, with this reduction."""
        return self._operator(*kept.tensors, reduction, *kept.options[1:])

    def values(self, kept: Kept, reduction: int) -> Tensor:
        """One value per row: elements of a row averaged (summed where the script sums), in the loss's own dtype."""
        elements = self.run(kept, NONE)
        if elements.dim() == 1:
            return elements
        elements = elements.reshape(self.rows(kept), -1)
        return elements.sum(1) if reduction == SUM else elements.mean(1)

    def valid(self, kept: Kept) -> Tensor:
        """How many elements were averaged into the value of each row (bool where it is one or none)."""
        rows = self.rows(kept)
        return torch.full((rows,), kept.target.numel() // max(rows, 1), dtype=torch.int32, device=kept.target.device)

    def divisor(self, kept: Kept) -> Tensor | None:
        """What the script's ``mean`` divided the sum of the rows' values by; None: by the number of rows."""
        return None


class NllReader(Reader):
    """Negative log-likelihood: classes, class weights, and targets to be ignored."""

    def keep(self, node: Any) -> Kept:
        """As :meth:`Reader.keep`; the ignored index comes back unsigned, and the divisor is saved by the operator."""
        ignored: int = node._saved_ignore_index
        if ignored >= 1 << 63:
            ignored -= 1 << 64
        tensors = (_detached(node._saved_self), node._saved_target, node._saved_weight)
        return Kept(self, tensors, (node._saved_reduction, ignored, node._saved_total_weight))

    def run(self, kept: Kept, reduction: int) -> Tensor:
        """As :meth:`Reader.run`; the divisor is a result, not an argument."""
        return self._operator(*kept.tensors, reduction, kept.options[1])

    def valid(self, kept: Kept) -> Tensor:
        """True for a target that counts, false for one that is ignored."""
        return kept.target != kept.options[1]

    def divisor(self, kept: Kept) -> Tensor | None:
        """The sum of the weights of the targets that count."""
        return kept.options[2] if kept.reduction == MEAN else None


READERS: dict[str, Reader] = {
    "NllLossBackward0": NllReader(_nn.nll_loss, "self target"),
    "MseLossBackward0": Reader(_nn.mse_loss, "self target"),
    "BinaryCrossEntropyWithLogitsBackward0": Reader(
        torch.binary_cross_entropy_with_logits, "self target weight pos_weight"
    ),
}
"""By the name of the autograd node."""


def _detached(tensor: Tensor | None) -> Tensor | None:
    """Without its graph: a kept tensor with one would hold every activation below it."""
    return tensor.detach() if tensor is not None and tensor.requires_grad else tensor
