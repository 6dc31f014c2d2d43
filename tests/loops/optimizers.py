"""Loops by how steps are taken: optimizers, schedulers, accumulation, precision, averages."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import (
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader

from tests.loops.loop import State, captured, data, fit, net, values


@captured("index")
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


@captured("index")
def accumulation_over_two_loaders() -> State:
    """One step for a batch of each of two loaders, back-propagated one by one, the first one last."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    first, second = DataLoader(data(), 8, shuffle=True), DataLoader(data(count=60), 8, shuffle=True)
    for (x, y), (u, v) in zip(first, second):
        optimizer.zero_grad()
        late = F.cross_entropy(model(x), y) * 0.5
        F.cross_entropy(model(u), v).backward()
        late.backward()
        optimizer.step()
    return [model.state_dict()]


@captured("not a single number", "index")
def accumulated_in_one_call() -> State:
    """The losses of several batches, back-propagated together."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses: list[torch.Tensor] = []
    for x, y in DataLoader(data(), 8, shuffle=True):
        losses.append(F.cross_entropy(model(x), y))
        if len(losses) == 3:
            optimizer.zero_grad()
            torch.autograd.backward(losses, retain_graph=True)
            torch.stack(losses).backward(torch.ones(3))
            optimizer.step()
            losses.clear()
    return [model.state_dict()]


@captured("exact")
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
        optimizer.step(cast("Any", closure))
    return [model.state_dict(), optimizer.state_dict()]


@captured("index")
def lbfgs_on_batches() -> State:
    """The same on batches of a loader, with a line search."""
    model = nn.Linear(6, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe")
    for x, y in DataLoader(values(), 30, shuffle=True):

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            return loss

        optimizer.step(cast("Any", closure))
    return [model.state_dict(), optimizer.state_dict()]


@captured("index")
def every_optimizer() -> State:
    """One after the other on the same network."""
    model, state = net(), []
    for make in (
        torch.optim.ASGD, torch.optim.Adadelta, torch.optim.Adagrad, torch.optim.Adamax, torch.optim.NAdam,
        torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Rprop,
    ):  # fmt: skip
        optimizer: Any = make(model.parameters(), 1e-2)  # type: ignore[abstract]
        state.append(fit(model, DataLoader(data(), 32), optimizer, epochs=1))
    return state


@captured("index")
def groups_of_parameters() -> State:
    """A learning rate of its own for each layer, one added late, one rate a tensor; foreach and not."""
    model = net()
    layers = [layer for layer in model.children() if list(layer.parameters())]
    optimizer = torch.optim.Adam(
        [{"params": layer.parameters(), "lr": torch.tensor(0.01 * place)} for place, layer in enumerate(layers[:2], 1)],
        foreach=False,
    )
    state = fit(model, DataLoader(data(), 16, shuffle=True), optimizer, epochs=1)
    optimizer.add_param_group({"params": layers[2].parameters(), "lr": 0.1})
    return state + fit(model, DataLoader(data(), 16, shuffle=True), optimizer, epochs=1)


class Sharpness(torch.optim.Optimizer):
    """Sharpness-aware minimization: a step up the slope, the gradient there, and the step of another optimizer."""

    def __init__(self, parameters: Any, inner: torch.optim.Optimizer) -> None:
        super().__init__(parameters, {"rho": 0.05})
        self.inner = inner

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        closure()
        with torch.no_grad():
            old = [p.clone() for group in self.param_groups for p in group["params"]]
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=group["rho"])
        loss = closure()
        with torch.no_grad():
            for p, value in zip((p for group in self.param_groups for p in group["params"]), old):
                p.copy_(value)
        self.inner.step()
        return loss


@captured("index")
def sharpness_aware() -> State:
    """An optimizer's step that calls another's, with two backward calls in it."""
    model = net()
    inner = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    optimizer = Sharpness(model.parameters(), inner)
    for x, y in DataLoader(data(), 16, shuffle=True):

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            inner.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
    return [model.state_dict(), inner.state_dict()]


class Decayed(torch.optim.SGD):
    """An optimizer that does more around ``super().step()``, and has hooks of the script's own."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(0.999)
        return super().step(closure)


@captured("index")
def optimizer_of_its_own() -> State:
    model, seen = net(), []
    optimizer = Decayed(model.parameters(), 0.1)
    optimizer.register_step_pre_hook(lambda *given: seen.append("before"))
    optimizer.register_step_post_hook(lambda *given: seen.append("after"))
    return [fit(model, DataLoader(data(), 16, shuffle=True), optimizer), seen]


@captured("index")
def step_inside_backward() -> State:
    """An optimizer for each parameter, stepped as soon as its gradient is there."""
    model = net()
    optimizers = {p: torch.optim.Adam([p], 1e-2) for p in model.parameters()}

    def step(p: torch.Tensor) -> None:
        optimizers[cast("nn.Parameter", p)].step()
        optimizers[cast("nn.Parameter", p)].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    for x, y in DataLoader(data(), 16, shuffle=True):
        F.cross_entropy(model(x), y).backward()
    return [model.state_dict(), [optimizer.state_dict() for optimizer in optimizers.values()]]


@captured("index")
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


@captured("index")
def schedules() -> State:
    """Several kinds in a row, per step and per epoch, chained, and one that looks at the loss."""
    model, rates, made = net(), [], data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    plateau = ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
    per_step: list[Any] = [
        SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=3), ExponentialLR(optimizer, 0.9)], [3]),
        CosineAnnealingWarmRestarts(optimizer, 4),
        LambdaLR(optimizer, lambda step: 0.95**step),
        torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=3),
    ]
    state: State = []
    for scheduler in per_step:
        total = 0.0
        for x, y in DataLoader(made, 32, shuffle=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
            rates.append(optimizer.param_groups[0]["lr"])
        plateau.step(total)
        state += [scheduler.state_dict(), plateau.state_dict()]
    return [model.state_dict(), rates, *(str(part) for part in state)]


@captured("index")
def averages() -> State:
    """An exponential moving average and stochastic weight averaging, with BatchNorm updated at the end."""
    model, loader = net(), DataLoader(data(), 16, shuffle=True)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    swa = AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = SWALR(optimizer, swa_lr=0.05)
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            ema.update_parameters(model)
        swa.update_parameters(model)
        scheduler.step()
    update_bn(loader, swa)
    return [model.state_dict(), ema.state_dict(), swa.state_dict()]


@captured("index")
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


class Narrow(nn.Module):
    """To bfloat16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.bfloat16()


@captured("index")
def bf16_weights() -> State:
    """A network that is bfloat16 itself."""
    model = nn.Sequential(Narrow(), net(1).bfloat16())
    return fit(model, DataLoader(values(), 16), loss=lambda out, y: F.mse_loss(out.float(), y))


@captured("index")
def scaled() -> State:
    """A gradient scaler, and a step that it skips because a gradient is infinite."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    scales: list[float] = []
    for number, (x, y) in enumerate(DataLoader(data(), 16, shuffle=True)):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        if number == 2:
            next(model.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_value_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return [model.state_dict(), optimizer.state_dict(), scaler.state_dict(), scales]


@captured("index")
def two_optimizers() -> State:
    """An actor and a critic that step in turns; the critic is restarted half way."""
    actor, critic = nn.Linear(6, 4), nn.Linear(6, 1)
    first, second = torch.optim.SGD(actor.parameters(), 0.1), torch.optim.Adam(critic.parameters(), 1e-2)
    for number, (x, y) in enumerate(DataLoader(data(), 16, shuffle=True)):
        first.zero_grad()
        F.cross_entropy(actor(x), y).backward()
        first.step()
        second.zero_grad()
        F.mse_loss(critic(x)[:, 0], y.float()).backward()
        second.step()
        if number == 3:
            second = torch.optim.Adam(critic.parameters(), 1e-3)
    return [actor.state_dict(), critic.state_dict(), first.state_dict(), second.state_dict()]
