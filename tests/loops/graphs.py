"""Loops by what is differentiated: several losses, gradients of gradients, functional transforms, custom functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.loops.loop import State, captured, data, fit, net, values


@captured("exact", "not known to be samples")
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


@captured("exact", "not known to be samples")
def wasserstein() -> State:
    """A critic without a loss function, and a penalty on its gradient: differentiated twice."""
    generator, critic = nn.Linear(3, 6), nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    first, second = (torch.optim.Adam(m.parameters(), 1e-2) for m in (generator, critic))
    for x, _ in DataLoader(data(), 16, shuffle=True):
        fake = generator(torch.randn(len(x), 3))
        mix = torch.lerp(x, fake.detach(), torch.rand(len(x), 1)).requires_grad_()
        (slope,) = torch.autograd.grad(critic(mix).sum(), mix, create_graph=True)
        second.zero_grad()
        loss = critic(fake.detach()).mean() - critic(x).mean() + 10 * ((slope.norm(2, 1) - 1) ** 2).mean()
        loss.backward()
        second.step()
        first.zero_grad()
        (-critic(fake).mean()).backward()
        first.step()
    return [generator.state_dict(), critic.state_dict()]


@captured("index")
def mixed_losses() -> State:
    """A loss, another with a factor, and a penalty on the weights, in one number."""
    model = net()
    return fit(model, DataLoader(data(), 16, shuffle=True), loss=lambda out, y: (
        F.cross_entropy(out, y) + 0.3 * F.mse_loss(out.softmax(1), F.one_hot(y, 4).float())
        + 1e-3 * sum((p**2).sum() for p in model.parameters())
    ))  # fmt: skip


@captured("exact")
def mixup() -> State:
    """Rows are mixed with others of the batch, and so are losses."""

    def mixed(loader: DataLoader[Any]) -> Any:
        for x, y in loader:
            rows = torch.randperm(len(x))
            yield 0.7 * x + 0.3 * x[rows], (y, y[rows])

    return fit(net(), mixed(DataLoader(data(), 16, shuffle=True)), epochs=1, loss=lambda out, ys: (
        0.7 * F.cross_entropy(out, ys[0]) + 0.3 * F.cross_entropy(out, ys[1])))  # fmt: skip


class Rounded(torch.autograd.Function):
    """Straight through; calls the engine from within its own backward, as checkpointing does."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        with torch.enable_grad():
            inner = gradient.detach().clone().requires_grad_()
            (inner**2).sum().backward()
        return gradient + 0.0 * (inner.grad if inner.grad is not None else 0)


class Quantized(nn.Module):
    """Through :class:`Rounded`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: Any = Rounded.apply(self.layer(x) * 8)
        return out / 8


@captured("index")
def custom_function() -> State:
    return fit(Quantized(), DataLoader(data(), 16, shuffle=True))


class CrossEntropy(torch.autograd.Function):
    """A loss of somebody's own, as fused kernels are."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, y)
        return F.cross_entropy(x, y)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        x, y = ctx.saved_tensors
        return gradient * (x.softmax(1) - F.one_hot(y, 4)) / len(y), None


@captured("CrossEntropyBackward")
def custom_loss_function() -> State:
    return fit(net(), DataLoader(data(), 16), loss=lambda out, y: CrossEntropy.apply(out, y))  # type: ignore[arg-type, return-value]


@captured()
def gradients_by_hand() -> State:
    """``torch.autograd.grad`` and plain SGD: no backward call at all."""
    model = net()
    for x, y in DataLoader(data(), 16, shuffle=True):
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients):
                parameter -= 0.1 * gradient
    return [model.state_dict()]


@captured()
def gradients_per_sample() -> State:
    """``vmap`` over ``grad`` over ``functional_call``, clipped by sample and averaged."""
    model = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loss(parameters: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(model, parameters, (x[None],)), y[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    for x, y in DataLoader(data(), 16, shuffle=True):
        gradients: Any = each({name: p.detach() for name, p in model.named_parameters()}, x, y)
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name].clamp(-1, 1).mean(0)
        optimizer.step()
    return [model.state_dict()]


@captured("index")
def adapted() -> State:
    """An inner step kept in the graph (MAML): the outer loss is of parameters that are not the model's."""
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(values(), 16, drop_last=True):
        named: dict[str, torch.Tensor] = dict(model.named_parameters())
        inner = F.mse_loss(functional_call(model, named, (x,)), y)
        slopes = torch.autograd.grad(inner, list(named.values()), create_graph=True)
        fast = {name: p - 0.1 * slope for (name, p), slope in zip(named.items(), slopes)}
        optimizer.zero_grad()
        F.mse_loss(functional_call(model, fast, (x,)), y).backward()
        optimizer.step()
    return [model.state_dict()]


@captured("index")
def adversarial() -> State:
    """The slope in the input, and the loss of what was changed along it: both are of the batch's samples."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(data(), 16, shuffle=True):
        x.requires_grad_()
        F.cross_entropy(model(x), y).backward()
        optimizer.zero_grad()
        worse = (x + 0.1 * x.grad.sign()).detach()  # type: ignore[union-attr]
        F.cross_entropy(model(worse), y).backward()
        optimizer.step()
    return [model.state_dict()]


@captured("index", "not known to be the same samples")
def create_graph() -> State:
    """Backward with a graph of its own, for a penalty on the gradients."""
    model = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in DataLoader(data(), 16, shuffle=True):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        slopes = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        sum((slope**2).sum() for slope in slopes).backward(retain_graph=True, inputs=[model.bias])  # type: ignore[union-attr]
        loss.backward(inputs=list(model.parameters()))
        optimizer.step()
    return [model.state_dict()]


@captured("index")
def anomalies() -> State:
    """Anomaly detection on, and a step that it stops."""
    model, raised = net(), 0
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        for number, (x, y) in enumerate(DataLoader(data(), 16)):
            optimizer.zero_grad()
            out = model(x)
            try:
                F.cross_entropy(out * (float("nan") if number == 2 else 1), y).backward()
            except RuntimeError:
                raised += 1
                continue
            optimizer.step()
    return [model.state_dict(), raised]


@captured("index")
def deterministic() -> State:
    torch.use_deterministic_algorithms(True)
    try:
        return fit(net(), DataLoader(data(), 16, shuffle=True))
    finally:
        torch.use_deterministic_algorithms(False)


@captured("freed", "approximate", "a gradient was passed", "not a single number", "index")
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
