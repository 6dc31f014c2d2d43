"""The state that watching must leave alone, and its hash."""

from __future__ import annotations

import gc
import hashlib
import locale
import logging
import os
import pickle
import random
import resource
import signal
import sys
import threading
import warnings
from typing import Any

import numpy as np
import torch


def surroundings() -> dict[str, Any]:
    """What a process has around its training, by name; values compare by their text."""
    kind, keys, *rest = np.random.get_state()
    umask = os.umask(0)
    os.umask(umask)
    return {
        "random": random.getstate(),
        "numpy's random": (kind, np.asarray(keys).tolist(), rest),
        "torch's random": torch.get_rng_state(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "default": (str(torch.get_default_dtype()), str(torch.get_default_device())),
        "deterministic": (torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory),  # type: ignore[attr-defined]
        "cudnn": [
            getattr(torch.backends.cudnn, name) for name in ("benchmark", "deterministic", "enabled", "allow_tf32")
        ],
        "matmul": torch.get_float32_matmul_precision(),
        "warnings": repr(warnings.filters),
        "locale": locale.getlocale(),
        "sys.path": sys.path,
        "sys.argv": sys.argv[1:],
        "sys.flags": (sys.flags, sys.getrecursionlimit(), sys.getswitchinterval()),
        "tracing": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile())
        if sys.version_info >= (3, 10)
        else (sys.gettrace(), sys.getprofile()),
        "excepthooks": [_named(hook) for hook in (sys.excepthook, sys.unraisablehook, threading.excepthook)],
        "signals": {int(number): _named(signal.getsignal(number)) for number in signal.valid_signals()},
        "environment": _environment(),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.get_freeze_count(), len(gc.callbacks)),
        "logging": (logging.root.level, len(logging.root.handlers), logging.getLevelName(logging.root.manager.disable)),
        "process": (os.getcwd(), umask, resource.getrlimit(resource.RLIMIT_NOFILE), os.nice(0)),
    }


def _named(part: Any) -> str:
    """A callable by its name: its address differs from run to run."""
    return f"{getattr(part, '__module__', '')}.{getattr(part, '__qualname__', part)}"


def _environment() -> dict[str, str]:
    """All of it but what the documentation says that children inherit."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONTHEFLY_")}
    paths = kept.pop("PYTHONPATH", "").split(os.pathsep)
    paths = [path for path in paths if os.path.basename(path) not in ("sitecustomize", "_shim")]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def digest(state: Any) -> str:
    """SHA-256 over everything in it, tensors by their bytes."""

    def flat(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            plain = value.detach().contiguous().view(-1).view(torch.uint8)
            return str(value.dtype), tuple(value.shape), plain.numpy().tobytes()
        if isinstance(value, dict):
            return [(str(key), flat(part)) for key, part in value.items()]
        if isinstance(value, (list, tuple)):
            return [flat(part) for part in value]
        return repr(value)

    return hashlib.sha256(pickle.dumps(flat(state))).hexdigest()
