"""What is done with a batch where the script does not say so: forward, loss, backward, step."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor, nn

from onthefly.errors import UsageError
from onthefly.trainer.data import moved

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = """use a step of your own:

    @trainer.training_step
    def step(batch, state):
        state["optimizer"].zero_grad()
        loss = state["loss_fn"](state["model"](batch[0]), batch[1])
        loss.backward()
        state["optimizer"].step()
        return {"loss": loss.detach()}
"""


class DefaultStep:
    """The step for batches whose meaning is plain.

    A tuple or list ``(*inputs, target)``: ``loss_fn(model(*inputs), target)``. A mapping: ``model(**batch)``, which
    gives the loss, or is compared with the one entry that the model does not take. With a
    ``loss_fn(model, batch)``: that.
    """

    def __init__(self, model: nn.Module, loss_fn: Optional[Callable[..., Any]], device: torch.device) -> None:
        self._model = model
        self._loss_fn = loss_fn
        self._device, self._moves = device, device.type != "cpu"
        self._of_model = _takes_model_and_batch(loss_fn)
        self._target: dict[tuple[str, ...], str] = {}
        """By the names in a batch: the one that is the target."""

    def train(self, batch: Any, state: dict[str, Any]) -> Optional[dict[str, Any]]:
        """One optimizer step; other entries than ``loss`` that the loss comes with are given back as metrics.

        As few calls as by hand: each that a step makes once meets cold caches, and twenty of them cost 100 us.
        """
        optimizer, scaler, clip = state["optimizer"], state["scaler"], state["grad_clip_norm"]
        optimizer.zero_grad()
        if not state["amp"]:
            loss, more = self._loss(batch)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(self._model.parameters(), clip)
            optimizer.step()
            return more
        with state["autocast"]:
            loss, more = self._loss(batch)
        scaler.scale(loss).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self._model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        return more

    def evaluate(self, batch: Any, state: dict[str, Any]) -> dict[str, Any]:
        """The loss of a batch, and what it comes with."""
        with state["autocast"]:
            loss, more = self._loss(batch)
        return {"loss": loss, **(more or {})}

    def _loss(self, batch: Any) -> tuple[Tensor, Optional[dict[str, Any]]]:
        model, loss_fn = self._model, self._loss_fn
        if self._moves:
            batch = moved(batch, self._device)
        if self._of_model and loss_fn is not None:
            return _single(loss_fn(model, batch), "loss_fn(model, batch)")
        if isinstance(batch, (tuple, list)) and len(batch) >= 2:
            if loss_fn is None:
                raise UsageError("loss_fn is missing", "pass loss_fn=, or " + EXAMPLE)
            *inputs, target = batch
            loss = loss_fn(model(*inputs), target)
            if type(loss) is Tensor and not loss.ndim:
                return loss, None
            return _single(loss, "loss_fn(model(*inputs), target)")
        if isinstance(batch, Mapping):
            return self._loss_of_mapping(batch)
        raise UsageError(f"it is not clear what to do with {_described(batch)}", EXAMPLE)

    def _loss_of_mapping(self, batch: Mapping[str, Any]) -> tuple[Tensor, Optional[dict[str, Any]]]:
        model, loss_fn = self._model, self._loss_fn
        names = tuple(batch)
        if names not in self._target:
            self._target[names] = _left_over(model, names) if loss_fn is not None else ""
        target = self._target[names]
        if target and loss_fn is not None:
            inputs = {name: part for name, part in batch.items() if name != target}
            return _single(loss_fn(model(**inputs), batch[target]), f"loss_fn(model(...), batch[{target!r}])")
        output = model(**batch)
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", output)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise UsageError(f"model(**batch) gives no loss for {_described(batch)}", EXAMPLE)
        return loss, None


def metrics_of(result: Any) -> dict[str, Any]:
    """What a step returned, as metrics."""
    if isinstance(result, Mapping):
        return dict(result)
    return {} if result is None else {"loss": result}


def gradient_scaler(device: torch.device, amp: bool) -> Any:
    """A scaler for float16 on a GPU; elsewhere one that does nothing (bfloat16 needs none)."""
    enabled = amp and device.type == "cuda"
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device.type, enabled=enabled)
    cuda: Any = torch.cuda.amp  # before torch 2.3
    return cuda.GradScaler(enabled=enabled)


def autocast(device: torch.device, amp: bool) -> Any:
    """Mixed precision, to be entered for each batch; without ``amp`` nothing, so that the script's own stays."""
    return torch.autocast(device.type) if amp else contextlib.nullcontext()


def _takes_model_and_batch(loss_fn: Any) -> bool:
    try:
        names = [name.lower() for name in inspect.signature(getattr(loss_fn, "forward", loss_fn)).parameters]
    except (TypeError, ValueError):
        return False
    return names[:2] in (["model", "batch"], ["module", "batch"], ["net", "batch"])


def _left_over(model: nn.Module, names: tuple[str, ...]) -> str:
    """The one name that the model's ``forward`` does not take; empty if it takes all, or lacks several."""
    taken = inspect.signature(model.forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return ""
    left = [name for name in names if name not in taken]
    if len(left) > 1:
        raise UsageError(f"the model takes none of {', '.join(map(repr, left))}", EXAMPLE)
    return left[0] if left else ""


def _single(output: Any, what: str) -> tuple[Tensor, Optional[dict[str, Any]]]:
    """One number to propagate, and what came with it.

    Losses come as a tensor, in a mapping with ``loss``, or first in a tuple.
    """
    more: Optional[dict[str, Any]] = None
    if isinstance(output, Mapping) and "loss" in output:
        more = {name: value for name, value in output.items() if name != "loss"}
        output = output["loss"]
    elif isinstance(output, tuple) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise UsageError(f"{what} gives a {type(output).__name__}, where a loss is needed", EXAMPLE)
    return output if output.dim() == 0 else output.mean(), more


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a batch with {', '.join(map(repr, batch))}"
    if isinstance(batch, (tuple, list)):
        return f"a batch that is a {type(batch).__name__} of {len(batch)}"
    return f"a batch that is a {type(batch).__name__}"
