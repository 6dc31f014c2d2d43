"""Numbers that are infinite or not a number: in losses, in gradients before a step, in parameters after it.

Losses come by in the records anyway. Gradients and parameters are read: the check costs one pass over them and makes
the host wait once for the accelerator. Norms are used because nothing else is as fast: of 10 M float32 numbers on one
core, read again and again, the 2-norms take 1.8 ms, ``isfinite`` 50, the maximum norm 33, ``aminmax`` 3.6, and
``_amp_foreach_non_finite_check_and_unscale_``, which would also write into the gradients, 3.3. A 2-norm may overflow
where every number is finite, so that what it finds is looked at exactly.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onthefly.alarms.finding import Finding
from onthefly.core.newest import losses

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.nn import Module
    from torch.optim import Optimizer

    from onthefly.core.newest import Loss
    from onthefly.protocol import Records

LOSS, GRADIENT, PARAMETER = "nonfinite-loss", "nonfinite-grad", "nonfinite-param"

_foreach_norm: Any = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage] - no public name, in 2.2 and now
_OWN: Any = vars(Tensor)["__torch_dispatch__"]
_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_HALF = (torch.float16, torch.bfloat16)


class NonfiniteLoss:
    """Watches the losses of the records; of one that is not finite it says how many samples are not."""

    def __init__(self) -> None:
        self._numbers: set[str] = set()
        """Reasons for not taking a loss apart that came with a number: with these, NaN is one as well."""
        self._alarmed = False

    def take(self, records: Records) -> Finding | None:
        """The first of this block, unless the newest finding still lasts: a finite training loss ends it."""
        found: Finding | None = None
        if not self._alarmed and not records.reasons and math.isfinite(sum(array("d", records.loss))):
            return None  # as nearly all are: a total is finite where all losses are, and those of samples with them
        codes, counts = array("h", records.reason), array("i", records.count)
        values, ends = array("f", records.sample_loss), _ends(counts)
        for loss in losses(records):
            reason = records.reasons[codes[loss.row]] if codes[loss.row] >= 0 else ""
            if loss.known and loss.value == loss.value:
                self._numbers.add(reason)
            elif reason and reason not in self._numbers:
                continue
            samples = values[ends[loss.row] - counts[loss.row] : ends[loss.row]]
            bad = 0 if math.isfinite(sum(samples)) else sum([not math.isfinite(value) for value in samples])
            if not bad and math.isfinite(loss.value):
                self._alarmed = False
            elif not self._alarmed:
                self._alarmed = True
                found = found or _loss_finding(loss, bad, len(samples))
        return found


def _ends(counts: Sequence[int]) -> list[int]:
    """Where the samples of each call end."""
    ends, end = [], 0
    for count in counts:
        end += count
        ends.append(end)
    return ends


def _loss_finding(loss: Loss, bad: int, count: int) -> Finding:
    of = f": {bad} of its {count} samples" if bad else ""
    text = f"the loss of step {loss.step} (backward {loss.backward}) is {loss.value:g}{of}"
    if math.isfinite(loss.value):
        text = f"{bad} of {count} samples of step {loss.step} (backward {loss.backward}) have no finite loss"
    numbers = {"loss": loss.value, "backward": float(loss.backward), "samples": float(bad)}
    return Finding(LOSS, loss.step, text, "severe", numbers)


class Norm(NamedTuple):
    """What one pass over gradients or parameters has found."""

    finite: bool
    value: float
    """Their 2-norm, all taken together; infinite where it does not fit into float32, NaN where one of them is."""


def gradients(optimizer: Optimizer) -> Norm:
    """Of all gradients that this optimizer would step with, as they are now: unscaled, clipped or not.

    Waits for the accelerator once. With DTensor those of this rank: no collective is added. Of sparse gradients the
    values as they stand, not coalesced.
    """
    return _norm([parameter.grad for parameter in _parameters(optimizer)])


def grads_finite(optimizer: Optimizer) -> bool:
    """Whether all gradients are finite; see :func:`gradients`."""
    return gradients(optimizer).finite


def parameters_finite(optimizer: Optimizer) -> bool:
    """Whether all parameters of this optimizer are finite; one pass, one wait, as for :func:`gradients`."""
    return _norm(_parameters(optimizer)).finite


def scaler_decides(optimizer: Any) -> bool:
    """Whether a GradScaler has asked a fused optimizer to skip the step by itself where gradients are not finite.

    Then they are no fault: the next step is taken with a smaller factor.
    """
    return getattr(optimizer, "found_inf", None) is not None


class Culprit(NamedTuple):
    """A parameter with numbers that are not finite."""

    name: str
    """Qualified, as in the module's ``named_parameters``; its place in the optimizer where no module has it."""
    nans: int
    infinities: int
    numbers: int
    """Of how many."""


def culprits(optimizer: Optimizer, modules: Iterable[Module], *, of: str = GRADIENT) -> list[Culprit]:
    """Which parameters it is; for when it has fired, since it reads each of them.

    ``of``: :data:`GRADIENT` or :data:`PARAMETER`. ``modules``: where names are looked for, the outermost first.
    """
    names: dict[int, str] = {}
    for module in modules:
        for name, parameter in module.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), name)
    found: list[Culprit] = []
    with torch.no_grad():
        for place, parameter in enumerate(_parameters(optimizer)):
            tensor = plain(parameter if of == PARAMETER else parameter.grad)
            if tensor is None:
                continue
            nans, infinities = int(tensor.isnan().sum()), int(tensor.isinf().sum())
            if nans or infinities:
                name = names.get(id(parameter), f"parameter {place} of the optimizer")
                found.append(Culprit(name, nans, infinities, tensor.numel()))
    return found


def finding(name: str, step: int, bad: Sequence[Culprit]) -> Finding:
    """What to say of gradients or parameters that are not finite; ``step`` is the one that would be, or was, taken."""
    what = "gradients" if name == GRADIENT else "parameters"
    named = ", ".join(f"{culprit.name} ({_shares(culprit)})" for culprit in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    when = "before" if name == GRADIENT else "after"
    text = f"{what} {when} step {step} are not finite: {named}{more}"
    numbers = {
        "tensors": len(bad),
        "nans": sum(one.nans for one in bad),
        "infinities": sum(one.infinities for one in bad),
    }
    return Finding(name, step, text, "severe", {key: float(value) for key, value in numbers.items()})


def _shares(culprit: Culprit) -> str:
    parts = [f"{count} {word}" for count, word in ((culprit.nans, "nan"), (culprit.infinities, "inf")) if count]
    return f"{' and '.join(parts)} of {culprit.numbers}"


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def plain(tensor: Tensor | None) -> Tensor | None:
    """The dense real numbers that this process holds of a tensor; None where there are none."""
    if tensor is None:
        return None
    local: Any = getattr(tensor, "_local_tensor", tensor)  # DTensor: what this rank has
    if type(local).__torch_dispatch__ is not _OWN or local.is_nested:  # fake tensors, and others that wrap
        return None
    if local.layout in _SPARSE:
        local = local._values() if local.layout is torch.sparse_coo else local.values()
    if local.layout is not torch.strided or local.device.type == "meta":
        return None
    if not (local.is_floating_point() or local.is_complex()):
        return None
    local = local.detach()
    return torch.view_as_real(local.resolve_conj()) if local.is_complex() else local


def total(tensors: Iterable[Tensor | None]) -> Tensor | None:
    """The 2-norm of all of them together, where the first lies, and not waited for; None where there are none."""
    return _total(_alike(tensors))


def _alike(tensors: Iterable[Tensor | None]) -> dict[tuple[torch.device, torch.dtype], list[Tensor]]:
    """Those that have numbers, by device and type."""
    alike: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in map(plain, tensors):
        if tensor is not None and tensor.numel():
            alike.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return alike


def _total(alike: dict[tuple[torch.device, torch.dtype], list[Tensor]]) -> Tensor | None:
    norms = [_norm_of(same) for same in alike.values()]
    if not norms:
        return None
    first = norms[0].device
    return torch.linalg.vector_norm(torch.stack([norm.to(first, torch.float32, non_blocking=True) for norm in norms]))


def _norm(tensors: Iterable[Tensor | None]) -> Norm:
    with torch.no_grad():
        alike = _alike(tensors)
        joined = _total(alike)
        if joined is None:
            return Norm(True, 0.0)
        value = joined.item()
        finite = math.isfinite(value) or all(_finite(tensor) for same in alike.values() for tensor in same)
        return Norm(finite, value)


def _norm_of(same: list[Tensor]) -> Tensor:
    """The norm of tensors of one device and dtype, as a float32 (or float64) scalar there."""
    if same[0].dtype in _HALF:  # their own norm overflows at 65504
        norms = [torch.linalg.vector_norm(tensor, dtype=torch.float32) for tensor in same]
    elif same[0].dtype in (torch.float32, torch.float64):
        norms = list(_foreach_norm(same))
    else:  # eight bits, which have no norm
        norms = [torch.linalg.vector_norm(tensor.float()) for tensor in same]
    return torch.linalg.vector_norm(torch.stack(norms))


def _finite(tensor: Tensor) -> bool:
    return bool((tensor if tensor.dtype.itemsize > 1 else tensor.float()).isfinite().all())
