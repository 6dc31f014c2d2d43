"""Functions within functions: counters held by nonlocal, callbacks in a list, a factory of training steps, lambdas."""

import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

Event = namedtuple("Event", ["step", "kind", "value"])


def make_meter():
    count, total, worst = 0, 0.0, None

    def update(value, n=1):
        nonlocal count, total, worst
        count += n
        total += value * n
        worst = value if worst is None else max(worst, value)
        return total / count

    def reset():
        nonlocal count, total, worst
        result = (count, total, worst)
        count, total, worst = 0, 0.0, None
        return result

    return update, reset


def make_step(model, optimizer, criterion, callbacks):
    calls = 0

    def step(x, y):
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        for callback in callbacks:
            callback(calls, loss.item())
        return loss.item()

    step.calls = lambda: calls
    return step


def every(n, action):
    return lambda step, value: action(step, value) if step % n == 0 else None


def train(out):
    torch.manual_seed(12)
    loader = DataLoader(TensorDataset(torch.randn(72, 4), torch.randint(0, 2, (72,))), batch_size=9, shuffle=True)
    model = nn.Sequential(OrderedDict(hidden=nn.Linear(4, 12), act=nn.ELU(), out=nn.Linear(12, 2)))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    events, kinds, by_epoch, seen = [], Counter(), defaultdict(dict), set()

    def record(kind):
        def action(step, value):
            events.append(Event(step, kind, value))
            kinds[kind] += 1

        return action

    update, reset = make_meter()
    callbacks = [every(1, lambda s, v: update(v)), every(4, record("fourth")), every(7, record("seventh"))]
    step = make_step(model, optimizer, nn.CrossEntropyLoss(), callbacks)
    for epoch in range(6):
        for x, y in loader:
            value = step(x, y)
            seen.add(round(value, 2))
            print(f"step {step.calls()} loss {value:.8f}")
        by_epoch[epoch]["meter"] = reset()
        by_epoch[epoch]["seen"] = len(seen)
        print(f"epoch {epoch} {by_epoch[epoch]} {dict(kinds)}")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, out + "/model.pt")
    with open(out + "/events.txt", "w") as f:
        for event in events:
            print(*event, file=f)


if __name__ == "__main__":
    train(sys.argv[1])
