"""A script: performs examples in turn, and writes down all that the script's author could see of each of them.

``python perform.py order items.json seen.jsonl`` with ``[[name, source], ...]`` in the first file; a line for each goes
to the second, flushed before the next begins, so that who started it knows which one has ended the process. ``order``
is ``cold`` (no loader is iterated but by examples) or ``trained`` (a step of training before each, and one after it).

Copied beside the test's own files and run there: it imports nothing of ours.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import linecache
import os
import random
import re
import signal
import sys
import traceback
import types
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SECONDS = 10
"""For one example."""

HERE = os.getcwd()
ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
MODULE = "example"


class TooSlow(BaseException):
    """Raised in an example that takes too long."""


class Caught:
    """What a block raised; nothing passes but the time limit and this process's end."""

    def __init__(self) -> None:
        self.text = ""

    def __enter__(self) -> Caught:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if kind is None or kind is TooSlow:
            return False
        self.text = "".join(traceback.format_exception(kind, error, trace.tb_next))  # without this file's own frame
        with contextlib.suppress(RuntimeError):
            traceback.clear_frames(trace)
        return True


def plain(text: str) -> str:
    """Without what differs from process to process."""
    return ADDRESS.sub("0x", text.replace(HERE, "."))


def given() -> dict[str, Any]:
    """What examples have at hand; many name a model or a loader that they do not make."""
    model = nn.Linear(3, 2)
    dataset = TensorDataset(torch.randn(8, 3), torch.randint(0, 2, (8,)))
    loader = DataLoader(dataset, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    criterion = nn.CrossEntropyLoss()

    def train(*arguments: Any, **named: Any) -> float:
        loss = torch.zeros(())
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    def validate(*arguments: Any, **named: Any) -> float:
        with torch.no_grad():
            return sum(F.cross_entropy(model(x), y).item() for x, y in loader)

    return {
        "torch": torch, "nn": nn, "F": F, "np": np, "optim": torch.optim, "Tensor": torch.Tensor,
        "DataLoader": DataLoader, "TensorDataset": TensorDataset,
        "model": model, "dataset": dataset, "loader": loader, "dataloader": loader, "data_loader": loader,
        "optimizer": optimizer, "criterion": criterion, "loss_fn": criterion, "train": train, "validate": validate,
    }  # fmt: skip


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def graph_of(tensor: torch.Tensor) -> str:
    """The nodes that a tensor was made by, breadth first."""
    names: list[str] = []
    waiting: list[Any] = [tensor.grad_fn]
    while waiting and len(names) < 100:
        node = waiting.pop(0)
        names.append(node.name() if node is not None else "-")
        waiting += [following for following, _ in node.next_functions] if node is not None else []
    return " ".join(names)


def of_tensor(tensor: Any) -> str:
    facts = [type(tensor), tensor.dtype, tuple(tensor.shape), tensor.layout, tensor.device, tensor.requires_grad]
    with Caught() as caught:
        facts += [tensor.is_leaf, tensor._version, graph_of(tensor), sorted(vars(tensor))]
        if tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized:
            facts += [tensor.stride(), tensor.storage_offset(), tensor.is_conj(), tensor.is_neg()]
            data = tensor.detach().resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8)
            facts.append(digest(data.numpy().tobytes()))
        else:
            facts.append(repr(tensor))
        grad = tensor.grad if tensor.is_leaf else None
        facts.append(of_tensor(grad) if grad is not None else None)
    return " ".join(map(str, facts)) + caught.text.rpartition("\n")[2]


def describe(value: Any, depth: int = 0) -> str:
    """All there is to see of a value, without asking it for what it would have to compute."""
    if isinstance(value, torch.Tensor):
        return of_tensor(value)
    if isinstance(value, np.ndarray):
        return f"ndarray {value.dtype} {value.shape} {value.strides} {digest(value.tobytes())}"
    if isinstance(value, (types.ModuleType, type, types.CodeType, types.FrameType)) or depth > 4:
        return repr(value)
    parts: list[str] = []
    if isinstance(value, dict):
        parts = [f"{key!r}: {describe(one, depth + 1)}" for key, one in list(value.items())[:100]]
    elif isinstance(value, (list, tuple)):
        parts = [describe(one, depth + 1) for one in value[:100]]
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict):
        parts += [
            f".{name}: {describe(one, depth + 1)}"
            for name, one in held.items()
            if not name.startswith("_onthefly_")  # of an iterator of a loader, which docs/architecture.md tells of
        ]
    return f"{type(value)}({'; '.join(parts)})" if parts else f"{type(value)} {value!r}"


def statements(source: str, file: str) -> list[Any]:
    """Each with its code; what does not parse is left out by who wrote the source down."""
    tree = ast.parse(source)
    return [compile(ast.Interactive([node]), file, "single", dont_inherit=True) for node in tree.body]


def settle() -> None:
    """What an example may have set is as it was, and what it is to draw is known."""
    os.chdir(HERE)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)
    torch.use_deterministic_algorithms(False)
    torch.set_printoptions(profile="default")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def random_state() -> str:
    states = (torch.get_rng_state().numpy().tobytes(), repr(random.getstate()), repr(np.random.get_state()))
    return " ".join(digest(state if isinstance(state, bytes) else state.encode()) for state in states)


def perform(name: str, source: str) -> dict[str, str]:
    """What was to be seen of an example."""
    seen: dict[str, str] = {}
    file = f"<{name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    module = sys.modules[MODULE] = types.ModuleType(MODULE)
    space = vars(module)
    space.update(given())
    for place, code in enumerate(statements(source, file)):
        printed = io.StringIO()
        out, err = contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed)
        with out, err, warnings.catch_warnings(record=True) as warned, Caught() as caught:
            warnings.simplefilter("always")
            exec(code, space)
        seen[f"{place} printed"] = printed.getvalue()
        seen[f"{place} raised"] = caught.text
        seen[f"{place} warned"] = "\n".join(
            f"{each.filename}:{each.lineno}: {each.category.__name__}: {each.message}" for each in warned
        )
    vars(__import__("builtins")).pop("_", None)
    seen["random"] = random_state()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for key, value in list(space.items()):
            if key not in ("__builtins__", "__warningregistry__"):  # the latter counts changes of all filters
                with Caught() as caught:
                    seen[f"value {key}"] = describe(value)
                if caught.text:
                    seen[f"value {key}"] = caught.text
    return {key: plain(text) for key, text in seen.items() if text}


def limited(name: str, source: str, trained: bool) -> dict[str, str]:
    def late(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, late)
    seen: dict[str, str] = {}
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        settle()
        if trained:
            seen["before"] = f"{given()['train']()} {random_state()}"
            settle()
        seen.update(perform(name, source))
        if trained:
            settle()
            here = given()
            seen["after"] = f"{here['train']()} {here['validate']()} {describe(here['model'])} {random_state()}"
    except TooSlow:
        return {"too slow": name}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return seen


def main(order: str, items: str, results: str) -> None:
    torch.set_warn_always(True)
    with open(items, encoding="utf-8") as file:
        todo: list[list[str]] = json.load(file)
    with open(results, "a", encoding="utf-8") as file:
        for name, source in todo:
            seen = limited(name, source, order == "trained")
            file.write(json.dumps([name, seen]) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
