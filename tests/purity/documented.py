"""The examples in the docstrings of the installed torch: lines that a script may have, and that nobody here wrote."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

APART = {
    "torch.distributed": "opens sockets, or needs several processes",
    "torch.cuda": "needs a GPU",
    "torch.xpu": "needs a GPU",
    "torch.mps": "needs a GPU",
    "torch.mtia": "needs an accelerator",
    "torch.hub": "needs the network",
    "torch.compiler": "tests/purity/test_compile.py has it",
    "torch.onnx": "needs a package that is not installed",
    "torch.utils.tensorboard": "needs a package that is not installed",
    "torch.utils.cpp_extension": "calls a compiler for minutes",
    "torch.utils.hipify": "is a program",
    "torch.utils.benchmark.examples": "are programs",
    "torch.utils.bottleneck": "is a program",
    "torch.utils.model_dump": "is a program",
    "torch.utils.collect_env": "is a program",
}
"""Modules whose examples are left out, and why."""

APART_IN_SOURCE = {
    r"torch\.compile\b|_dynamo|torch\.compiler": "takes a compiler minutes; tests/purity/test_compile.py has it",
    r"init_process_group|\brpc\b|torch\.distributed|DistributedDataParallel|\bdist\.": "opens sockets",
    r"torch\.hub|load_url|load_state_dict_from_url|urlopen|requests\.": "needs the network",
    r"mp\.spawn|multiprocessing|os\.fork|subprocess": "forks",
    r"cpp_extension|load_inline": "calls a compiler",
    r"nn\.quantized|nnq\.|\b(new_)?empty(_\w+)?\(|_storage": "shows memory that nobody has filled",
    r"\binput\(\)|pdb\.|breakpoint": "waits for a person",
}
"""What an example's text has that is left out, and why."""


def modules(every: bool) -> Iterator[types.ModuleType]:
    """Torch's public modules; unless ``every``, those that ``import torch`` has imported."""
    waiting = [torch]
    while waiting:
        module = waiting.pop(0)
        yield module
        for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
            name = f"{module.__name__}.{found.name}"
            if found.name.startswith("_") or name in APART:
                continue
            if every and name not in sys.modules:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        importlib.import_module(name)
                    except (ImportError, OSError, RuntimeError):
                        continue
            if name in sys.modules:
                waiting.append(sys.modules[name])


def documented(every: bool) -> Iterator[tuple[str, str]]:
    """Names and docstrings."""
    for module in modules(every):
        yield module.__name__, module.__doc__ or ""
        for name in sorted(vars(module)):
            value: Any = vars(module)[name]
            if name.startswith("_") or isinstance(value, types.ModuleType):
                continue
            yield f"{module.__name__}.{name}", _doc(value)
            if inspect.isclass(value):
                for owner in value.__mro__:
                    if owner.__module__.partition(".")[0] == "torch":
                        for inner, one in vars(owner).items():
                            if not inner.startswith("_"):
                                yield f"{module.__name__}.{name}.{inner}", _doc(one)


def _doc(value: Any) -> str:
    doc = getattr(value, "__doc__", None)
    return doc if isinstance(doc, str) else ""


def examples(every: bool) -> list[tuple[str, str]]:
    """Names and sources, each source once."""
    found: dict[str, str] = {}
    docs: dict[str, str] = {}
    for name, doc in documented(every):
        if ">>>" in doc:
            docs.setdefault(doc, name)
    for doc, name in docs.items():
        source = source_of(doc)
        if source and not any(re.search(pattern, source) for pattern in APART_IN_SOURCE):
            found.setdefault(source, name)
    return [(name, source) for source, name in found.items()]


def source_of(doc: str) -> str:
    """The lines after the prompts; of a text that is no Python as a whole, the statements that are."""
    statements: list[str] = []
    for line in doc.splitlines():
        match = re.match(r"\s*(>>>|\.\.\.)(?: (.*)|$)", line)
        if match is None:
            continue
        text = match[2] or ""
        if statements and (match[1] == "..." or text.startswith((" ", "\t"))):  # many go on with a prompt of their own
            statements[-1] += "\n" + text
        else:
            statements.append(text)
    whole = "\n".join(statements)
    return whole if _is_python(whole) else "\n".join(each for each in statements if _is_python(each))


def _is_python(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError:
        return False
    return True
