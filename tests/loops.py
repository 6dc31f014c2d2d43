"""Small training loops of many kinds, each a function; run one and print the hash of all state that it could change.

``python tests/loops.py NAME...`` prints a line for each: used plain and watched, to be compared.
"""

from __future__ import annotations

import hashlib
import locale
import pickle
import random
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

if TYPE_CHECKING:
    from collections.abc import Callable

State = list[Any]


def data(classes: int = 4, count: int = 83) -> TensorDataset:
    """Random vectors, whole numbers as targets."""
    return TensorDataset(torch.randn(count, 6), torch.randint(0, classes, (count,)))


def net(out: int = 4) -> nn.Module:
    """With BatchNorm and dropout: state and randomness that observing could disturb."""
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, out))


def plain() -> State:
    """Cross entropy, Adam, shuffle, a last short batch, validation in between."""
    model, loader = net(), DataLoader(data(), 16, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    seen = []
    for _ in range(2):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        model.eval()
        with torch.no_grad():
            seen += [F.cross_entropy(model(x), y).item() for x, y in DataLoader(data(), 32)]
    return [model.state_dict(), optimizer.state_dict(), seen]


def workers() -> State:
    """Two persistent workers and a nested Subset."""
    model = net()
    subset = Subset(Subset(data(), list(range(80, 0, -1))), list(range(0, 80, 2)))
    loader = DataLoader(subset, 7, shuffle=True, num_workers=2, persistent_workers=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y, weight=torch.tensor([1.0, 2.0, 0.5, 3.0])).backward()
            optimizer.step()
    return [model.state_dict(), optimizer.state_dict()]


def accumulation() -> State:
    """Several backward calls a step, clipping, a scheduler per step."""
    model, loader = net(), DataLoader(data(), 8, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=10)
    for number, (x, y) in enumerate(loader):
        (F.cross_entropy(model(x), y) / 3).backward()
        if number % 3 == 2:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return [model.state_dict(), optimizer.state_dict(), scheduler.state_dict()]


def lbfgs() -> State:
    """Closures: many backward calls inside one step."""
    model = nn.Linear(6, 1)
    x, y = torch.randn(40, 6), torch.randn(40, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)  # type: ignore[arg-type]
    return [model.state_dict(), optimizer.state_dict()]


def gan() -> State:
    """Two optimizers, two losses, targets made on the spot."""
    generator, critic = nn.Linear(3, 6), nn.Linear(6, 1)
    first, second = (torch.optim.Adam(m.parameters(), 1e-2) for m in (generator, critic))
    for x, _ in DataLoader(data(), 16, shuffle=True):
        fake = generator(torch.randn(len(x), 3))
        second.zero_grad()
        real_loss = F.binary_cross_entropy_with_logits(critic(x), torch.ones(len(x), 1))
        fake_loss = F.binary_cross_entropy_with_logits(critic(fake.detach()), torch.zeros(len(x), 1))
        (real_loss + fake_loss).backward()
        second.step()
        first.zero_grad()
        F.binary_cross_entropy_with_logits(critic(fake), torch.ones(len(x), 1)).backward()
        first.step()
    return [generator.state_dict(), critic.state_dict(), first.state_dict(), second.state_dict()]


def by_hand() -> State:
    """No DataLoader, no optimizer: index tensors and plain SGD."""
    model, dataset = net(), data()
    x, y = dataset.tensors
    for rows in torch.randperm(80).view(8, 10):
        F.nll_loss(F.log_softmax(model(x[rows]), 1), y[rows]).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
    return [model.state_dict()]


def bf16() -> State:
    """Autocast on the CPU."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for x, y in DataLoader(data(), 16, shuffle=True):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
        optimizer.step()
    return [model.state_dict(), optimizer.state_dict()]


def checkpointed() -> State:
    """Gradient checkpointing, and a loss computed inside it."""
    from torch.utils.checkpoint import checkpoint

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(data(), 16, shuffle=True):
        optimizer.zero_grad()
        loss: Any = checkpoint(lambda x, y: F.cross_entropy(model(x), y), x, y, use_reentrant=False)
        loss.backward()
        optimizer.step()
    return [model.state_dict()]


def odd() -> State:
    """Losses that cannot be read, steps that raise, a retained graph, gradients passed, a vector's backward."""
    model, dataset = net(), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    raised = 0
    for x, y in DataLoader(dataset, 16):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward(retain_graph=True)
        loss.backward(torch.tensor(0.5))
        try:
            loss.backward()
        except RuntimeError:
            raised += 1
        ((model(x) ** 2).sum() + 1).backward()
        model(x).backward(torch.ones(len(x), 4))
        torch.autograd.backward([model(x).sum(), model(x).mean()])
        try:
            optimizer.step(lambda: 1 / 0)
        except ZeroDivisionError:
            raised += 1
        optimizer.step()
    return [model.state_dict(), raised]


def buffers() -> State:
    """Targets written into one buffer, losses changed in place after the backward call, memory shared with NumPy."""
    model, dataset = net(), data(count=80)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    held = torch.empty(16, dtype=torch.int64)
    shared = np.empty(16, dtype=np.int64)
    total = torch.zeros(())
    for number, (x, y) in enumerate(DataLoader(dataset, 16)):
        held.copy_(y)
        shared[:] = y.numpy()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), held if number % 2 else torch.from_numpy(shared))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            total += loss.mul_(2)
    return [model.state_dict(), total]


def composites() -> State:
    """Losses whose functions have slots, and cross entropy that is smoothed or of probabilities."""
    model, dataset = net(), data()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses: list[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = [
        lambda x, y: F.l1_loss(x[:, 0], y.float()),
        lambda x, y: F.kl_div(F.log_softmax(x, 1), F.one_hot(y, 4).float(), reduction="batchmean"),
        lambda x, y: F.poisson_nll_loss(x[:, 0], y.float(), full=True),
        lambda x, y: F.gaussian_nll_loss(x[:, 0], y.float(), F.softplus(x[:, 1])),
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
        lambda x, y: F.cross_entropy(x, F.one_hot(y, 4).float()),
        lambda x, y: F.l1_loss(x[:, 0], y.float()) + F.huber_loss(x[:, 1], y.float()),
    ]
    seen = []
    for x, y in DataLoader(dataset, 16, shuffle=True):
        for loss in losses:
            optimizer.zero_grad()
            seen.append(loss(model(x), y))
            seen[-1].backward()
            optimizer.step()
    return [model.state_dict(), optimizer.state_dict(), [loss.item() for loss in seen]]


LOOPS: dict[str, Callable[[], State]] = {
    loop.__name__: loop
    for loop in (plain, workers, accumulation, lbfgs, gan, by_hand, bf16, checkpointed, odd, buffers, composites)
}


def surroundings() -> State:
    """The state of the process that observing must leave alone."""
    kind, keys, *rest = np.random.get_state()
    return [
        random.getstate(),
        (kind, np.asarray(keys).tolist(), rest),
        torch.get_rng_state(),
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.is_grad_enabled(),
        str(torch.get_default_dtype()),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        repr(warnings.filters),
        locale.getlocale(),
    ]


def digest(state: Any) -> str:
    """SHA-256 over everything in it, tensors by their bytes."""

    def flat(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return str(value.dtype), tuple(value.shape), value.detach().contiguous().view(-1).numpy().tobytes()
        if isinstance(value, dict):
            return [(str(key), flat(part)) for key, part in value.items()]
        if isinstance(value, (list, tuple)):
            return [flat(part) for part in value]
        return repr(value)

    return hashlib.sha256(pickle.dumps(flat(state))).hexdigest()


def run(name: str) -> str:
    """Seed everything, run one loop, hash what it made and what it left around."""
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    return digest([LOOPS[name](), surroundings()])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or LOOPS:
        print(chosen, run(chosen), flush=True)
