"""Multi-task: each step draws a task by random.choices and takes next() of that task's own iterator, made anew when empty."""

import random
import sys
from collections import Counter, namedtuple
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

Task = namedtuple("Task", "name loader criterion head optimizer")


def make_task(name, body, n, classes):
    x = torch.randn(n, 5)
    y = torch.randint(0, classes, (n,)) if classes else x.sum(1, keepdim=True)
    head = nn.Linear(12, classes or 1)
    criterion = nn.CrossEntropyLoss() if classes else nn.SmoothL1Loss()
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=5e-3)
    return Task(name, DataLoader(TensorDataset(x, y), 8, shuffle=True), criterion, head, optimizer)


def main():
    out = Path(sys.argv[1])
    random.seed(3)
    torch.manual_seed(3)
    body = nn.Sequential(nn.Linear(5, 12), nn.Tanh())
    tasks = [make_task("sort", body, 40, 3), make_task("sum", body, 30, 0), make_task("flag", body, 50, 2)]
    iterators = {task.name: iter(task.loader) for task in tasks}
    counts, passes = Counter(), Counter()
    seen = set()
    trace = []
    for step in range(1, 61):
        (task,) = random.choices(tasks, weights=[3, 1, 2])
        try:
            x, y = next(iterators[task.name])
        except StopIteration:
            passes[task.name] += 1
            iterators[task.name] = iter(task.loader)
            x, y = next(iterators[task.name])
        counts.update([task.name])
        seen.add((task.name, passes[task.name]))
        task.optimizer.zero_grad()
        loss = task.criterion(task.head(body(x)), y)
        loss.backward()
        task.optimizer.step()
        trace.append((step, task.name, loss.item()))
        print(f"step {step} {task.name} loss {loss.item():.8f}")
        if step % 20 == 0:
            print("so far:", dict(counts), sorted(seen))
            (out / "trace.txt").write_text("\n".join(map(repr, trace)))
    state = {task.name: (task.head.state_dict(), task.optimizer.state_dict()) for task in tasks}
    torch.save({"body": body.state_dict(), "tasks": state, "counts": counts}, out / "model.pt")


if __name__ == "__main__":
    main()
