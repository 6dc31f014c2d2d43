"""Loops by what is trained: kinds of networks, and what scripts do to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from tests.loops.loop import MADE, State, captured, data, fit, net, values

if TYPE_CHECKING:
    from collections.abc import Callable


def sequences(count: int = 40) -> TensorDataset:
    """Whole numbers below 12, five in a row, and one of four classes."""
    made = TensorDataset(torch.randint(0, 12, (count, 5)), torch.randint(0, 4, (count,)))
    MADE.append(made)
    return made


@captured("index")
def plain() -> State:
    """Cross entropy, Adam, shuffle, a last short batch, validation in between."""
    model, loader = net(), DataLoader(data(), 16, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    state: State = []
    for _ in range(2):
        model.train()
        state += fit(model, loader, optimizer, epochs=1)
        model.eval()
        with torch.no_grad():
            state += [F.cross_entropy(model(x), y).item() for x, y in DataLoader(data(), 32)]
    return state


@captured("index")
def convolutions() -> State:
    """Images, BatchNorm, pooling, dropout of channels."""
    made = TensorDataset(torch.randn(40, 1, 8, 8), torch.randint(0, 4, (40,)))
    MADE.append(made)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.2), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(36, 4),
    )  # fmt: skip
    return fit(model, DataLoader(made, 8, shuffle=True))


class Recurrent(nn.Module):
    """An LSTM whose last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.cells = nn.LSTM(8, 8, num_layers=2, dropout=0.2, batch_first=True)
        self.classify = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.cells(self.embed(x))[0][:, -1])


@captured("index")
def recurrent() -> State:
    return fit(Recurrent(), DataLoader(sequences(), 8, shuffle=True))


@captured("index")
def carried_state() -> State:
    """Truncated backpropagation: the hidden state goes on from batch to batch, detached."""
    model, head = nn.GRU(6, 4, batch_first=True), nn.Linear(4, 1)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], 0.1)
    hidden = torch.zeros(1, 8, 4)
    for x, y in DataLoader(values(), 8, drop_last=True):
        optimizer.zero_grad()
        out, hidden = model(x.unsqueeze(1), hidden.detach())
        F.mse_loss(head(out[:, 0]), y).backward()
        optimizer.step()
    return [model.state_dict(), head.state_dict(), hidden]


class Attention(nn.Module):
    """One layer of a transformer over embedded numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.classify = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.layer(self.embed(x)).mean(1))


@captured("index")
def transformer() -> State:
    return fit(Attention(), DataLoader(sequences(), 8, shuffle=True))


@captured("index")
def tokens() -> State:
    """A language model's loss: one row for each token, not for each sample."""
    model = nn.Sequential(nn.Embedding(12, 8), nn.Linear(8, 12))
    loader: DataLoader[Any] = DataLoader(sequences(), 8, shuffle=True)
    return fit(model, ((x[:, :-1], x[:, 1:]) for x, _ in loader), loss=lambda out, y: F.cross_entropy(
        out.reshape(-1, 12), y.reshape(-1)))  # fmt: skip


@captured("index")
def autoencoder() -> State:
    """The input is the target."""
    model = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 6))
    made = values(width=6)
    made.tensors = made.tensors[:1] * 2
    return fit(model, DataLoader(made, 16, shuffle=True), loss=lambda out, y: F.mse_loss(out, y))


@captured("index")
def several_heads_one_after_the_other() -> State:
    """Two losses of one batch, back-propagated one by one through a graph that is kept."""
    trunk, first, second = nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(8, 4)
    optimizer = torch.optim.SGD([*trunk.parameters(), *first.parameters(), *second.parameters()], 0.1)
    for x, y in DataLoader(data(), 16, shuffle=True):
        optimizer.zero_grad()
        features = torch.relu(trunk(x))
        F.cross_entropy(first(features), y).backward(retain_graph=True)
        F.cross_entropy(second(features), y, reduction="sum").backward()
        optimizer.step()
    return [trunk.state_dict(), first.state_dict(), second.state_dict()]


@captured("index")
def weight_norm() -> State:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(6, 8)), parametrizations.spectral_norm(nn.Linear(8, 4))
    )
    return fit(model, DataLoader(data(), 16, shuffle=True))


class Symmetric(nn.Module):
    """A parametrization of somebody's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.triu() + x.triu(1).transpose(-1, -2)


@captured("index")
def parametrized() -> State:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 4))
    parametrize.register_parametrization(model[0], "weight", Symmetric())
    with parametrize.cached():
        state = fit(model, DataLoader(data(), 16), epochs=1, optimizer=torch.optim.SGD(model.parameters(), 0.0))
    return state + fit(model, DataLoader(data(), 16))


@captured("index")
def sparse_embedding() -> State:
    """Gradients that are sparse, for SparseAdam."""
    model = nn.EmbeddingBag(12, 4, sparse=True)
    return fit(model, DataLoader(sequences(), 8, shuffle=True), torch.optim.SparseAdam(model.parameters(), 1e-2))


@captured("index")
def float64_everywhere() -> State:
    torch.set_default_dtype(torch.float64)
    try:
        return fit(net(1), DataLoader(values(), 16, shuffle=True), loss=lambda out, y: F.mse_loss(out, y))
    finally:
        torch.set_default_dtype(torch.float32)


@captured("index")
def hooks_of_the_script() -> State:
    """On modules, on tensors, on all modules: called as often, in the same order, with the same numbers."""
    model, seen = net(), []
    note: Any = seen.append
    last: Any = model[4]  # type: ignore[index]
    handles = [
        model.register_forward_hook(lambda module, given, out: note(out.sum().item())),
        last.register_full_backward_hook(lambda module, ins, outs: note(outs[0].sum().item())),
        nn.modules.module.register_module_forward_hook(lambda module, given, out: note(type(module).__name__)),
    ]
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: note(gradient.norm().item()))
    state = fit(model, DataLoader(data(), 16, shuffle=True))
    for handle in handles:
        handle.remove()
    return [state, seen]


@captured("saved through a hook")
def checkpointed() -> State:
    """Gradient checkpointing, and a loss computed inside it."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(data(), 16, shuffle=True):
        optimizer.zero_grad()
        loss: Any = checkpoint(lambda x, y: F.cross_entropy(model(x), y), x, y, use_reentrant=False)
        loss.backward()
        optimizer.step()
    return [model.state_dict()]


@captured("index")
def checkpointed_trunk() -> State:
    """Gradient checkpointing as it is used: the loss is outside. Both kinds."""
    state: State = []
    for reentrant in (False, True):
        trunk, head = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.2), nn.ReLU()), nn.Linear(16, 4)
        optimizer = torch.optim.SGD([*trunk.parameters(), *head.parameters()], 0.1)
        for x, y in DataLoader(data(), 16, shuffle=True):
            optimizer.zero_grad()
            features: Any = checkpoint(trunk, x.requires_grad_(), use_reentrant=reentrant)
            F.cross_entropy(head(features), y).backward()
            optimizer.step()
        state += [trunk.state_dict(), head.state_dict()]
    return state


@captured("index")
def offloaded() -> State:
    """Saved tensors of the trunk are kept through hooks (as offloading does it), the loss's are not."""
    model, head, packed = nn.Linear(6, 8), nn.Linear(8, 4), []
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], 0.1)
    for x, y in DataLoader(data(), 16):
        optimizer.zero_grad()
        with torch.autograd.graph.save_on_cpu():
            features = torch.relu(model(x))
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: (packed.append(tuple(tensor.shape)), tensor)[1], lambda tensor: tensor
        ):
            features = features * 2
        F.cross_entropy(head(features), y).backward()
        optimizer.step()
    return [model.state_dict(), head.state_dict(), packed]


@captured("index")
def shared_weights() -> State:
    """One matrix embeds and predicts; half of the network is frozen."""
    embed, mix = nn.Embedding(12, 8), nn.Linear(8, 8)
    predict = nn.Linear(8, 12, bias=False)
    predict.weight = embed.weight
    mix.weight.requires_grad_(False)
    model = nn.Sequential(embed, mix, predict)
    return fit(model, DataLoader(sequences(), 8), loss=lambda out, y: F.cross_entropy(out[:, -1], y))


@captured("index")
def default_device() -> State:
    """``torch.set_default_device`` is a mode that sees every operator."""
    torch.set_default_device("cpu")
    try:
        return fit(net(), DataLoader(data(), 16, generator=torch.Generator("cpu"), shuffle=True))
    finally:
        torch.set_default_device(cast("Any", None))


@captured("index")
def composites() -> State:
    """Losses whose functions have slots, cross entropy that is smoothed or of probabilities, and a sum of two."""
    model = net()
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
    seen: list[torch.Tensor] = []
    for x, y in DataLoader(data(), 16, shuffle=True):
        for loss in losses:
            optimizer.zero_grad()
            seen.append(loss(model(x), y))
            seen[-1].backward()
            optimizer.step()
    return [model.state_dict(), optimizer.state_dict(), [loss.item() for loss in seen]]
