"""A checkpoint as files that need no OnTheFly: ``model.pt`` for ``torch.load``, ``model.safetensors`` for everybody.

``torch.load("model.pt", weights_only=True)["model"]`` is a state dict. Of several modules ``"model"`` is the one of
that name, else the one of which most elements are trained, else the first; ``"optimizer"`` is the one that trains it,
``"scheduler"`` that of this optimizer. The others stand beside them under their own names.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onthefly.bundle import arrays, files, tensors
from onthefly.bundle.refusals import Damaged
from onthefly.errors import Refused, report
from onthefly.state.encoding import LeftOut, stored_form
from onthefly.state.files import read_form
from onthefly.state.form import Form

if TYPE_CHECKING:
    from pathlib import Path

    from onthefly.bundle.tensors import Stored

RESERVED = ("model", "optimizer", "scheduler", "step", "epoch")


def export_pt(source: Form | Path, file: Path) -> int:
    """Write ``file``, whole or not at all; returns its bytes.

    What torch does not load with ``weights_only`` (functions, objects) is left out, NumPy's arrays become tensors, its
    scalars numbers. Raises :class:`~onthefly.errors.Refused` without a model,
    :class:`~onthefly.bundle.refusals.NotWritten`, :class:`~onthefly.bundle.refusals.BundleError`.
    """
    return _save(as_dictionary(_form(source)), file)


def _save(content: dict[str, Any], file: Path) -> int:
    def write(temporary: Path) -> None:
        try:
            with open(temporary, "xb") as stream:
                torch.save(content, stream)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch's own clean-up hides what the disk said
                raise error.__context__ from None
            raise
        loaded: Any = torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)
        if list(loaded) != list(content):
            raise Damaged(f"{file} could not be read again", "please report it")

    return files.replace_file(file, write)


def export_ckpt(source: Form | Path, file: Path) -> int:
    """Write a checkpoint of Lightning's, for ``load_from_checkpoint`` and ``trainer.fit(ckpt_path=...)``.

    Without the states of callbacks, and what ``on_save_checkpoint`` adds. Returns its bytes; raises as above, also
    where the run was not Lightning's.
    """
    return _save(as_lightning(_form(source)), file)


def export_safetensors(source: Form | Path, file: Path) -> int:
    """Write the tensors of the model alone as safetensors, whole or not at all; returns its bytes. Raises as above."""
    form = _form(source)
    state = form.sections["modules"][main_model(form)]
    stored: dict[str, Stored] = {}
    for name, value in state.items():
        one = stored_form(value) if isinstance(value, Tensor) else None
        if one is not None:
            stored[name] = one
    return files.replace_file(file, lambda path: files.write_file(path, tensors.chunks(stored, {"format": "pt"})))


def as_dictionary(form: Form) -> dict[str, Any]:
    """What :func:`export_pt` saves."""
    sections = form.sections
    model = main_model(form)
    optimizer = _trains(form, "optimizers", model)
    scheduler = _trains(form, "schedulers", optimizer)
    found: dict[str, Any] = {"model": _plain(sections["modules"][model])}
    if optimizer:
        found["optimizer"] = _plain(sections["optimizers"][optimizer])
    if scheduler:
        found["scheduler"] = _plain(sections["schedulers"][scheduler])
    found["step"], found["epoch"] = form.place.step, form.place.epoch
    for kind, main in (("modules", model), ("optimizers", optimizer), ("schedulers", scheduler), ("tensors", "")):
        for name, state in sections[kind].items():
            if name != main:
                found[f"{kind}.{name}" if name in found or name in RESERVED else name] = _plain(state)
    return found


def as_lightning(form: Form) -> dict[str, Any]:
    """What :func:`export_ckpt` saves."""
    found: dict[str, Any] | None = form.sections.get("lightning")
    if not found or "refused" in found:
        raise Refused((found or {}).get("refused", "this run was not driven by Lightning's Trainer"),
                      "write .pt or .safetensors instead")  # fmt: skip
    content: dict[str, Any] = {
        "epoch": found["epoch"], "global_step": found["global_step"], "loops": found["loops"],
        "pytorch-lightning_version": found["version"], "state_dict": form.sections["modules"][found["module"]],
    }  # fmt: skip
    if found["within"]:  # as Lightning's own save_weights_only: fit() says that it cannot go on from such a file
        report(f"for load_from_checkpoint only, not for fit(ckpt_path=...): {found['within']}")
    else:
        content.update(callbacks={}, optimizer_states=_named(form, "optimizers", found),
                       lr_schedulers=_named(form, "schedulers", found))  # fmt: skip
    if "hyper_parameters" in found:
        content.update(hyper_parameters=found["hyper_parameters"], hparams_name=found["hparams_name"])
    return _plain(content)


def _named(form: Form, kind: str, given: dict[str, Any]) -> list[Any]:
    return [form.sections[kind][state] if isinstance(state, str) else state for state in given[kind]]


def main_model(form: Form) -> str:
    """The name of the module that is ``"model"``."""
    modules, trained = form.sections["modules"], form.sections["trained"]
    if not modules:
        raise Refused("there is no module in this checkpoint", "its tensors are in tensors.safetensors")
    if "model" in modules:
        return "model"
    return max(modules, key=lambda name: trained.get(name, 0))


def _trains(form: Form, kind: str, what: str) -> str:
    """The first optimizer of that module, or scheduler of that optimizer; the only one in any case; else nothing."""
    names = list(form.sections[kind])
    if len(names) == 1:
        return names[0]
    return next((name for name in names if form.sections["trains"].get(name) == what), "")


def _form(source: Form | Path) -> Form:
    form = source if isinstance(source, Form) else read_form(source)
    form.wait()
    return form


def _plain(value: Any) -> Any:
    """As ``weights_only`` takes it."""
    kind = arrays.kind(value)
    if kind:
        return torch.from_numpy(value.copy()) if kind == "array" and value.dtype.kind in "biufc" else value.tolist()
    if isinstance(value, (dict, OrderedDict)):
        pairs: Any = ((_plain(key), _plain(item)) for key, item in value.items() if not isinstance(item, LeftOut))
        return OrderedDict(pairs) if isinstance(value, OrderedDict) else dict(pairs)
    if isinstance(value, LeftOut):
        return None
    if isinstance(value, torch.Size) or type(value) not in (list, tuple):
        return list(value) if type(value).__name__ == "deque" else value
    return type(value)(_plain(item) for item in value)
