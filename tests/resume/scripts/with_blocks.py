"""Everything in with blocks: a summary writer of its own, ExitStack, grad mode switches; ends by sys.exit(3)."""

import contextlib
import io
import json
import os
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SummaryWriter:
    def __init__(self, log_dir, flush_every=6):
        self.path = os.path.join(log_dir, "events.jsonl")
        self.flush_every = flush_every
        self.pending = []

    def __enter__(self):
        self.file = open(self.path, "ab")
        return self

    def __exit__(self, *error):
        self.flush()
        self.file.close()

    def add_scalar(self, tag, value, step):
        self.pending.append({"tag": tag, "value": float(value), "step": step})
        if len(self.pending) >= self.flush_every:
            self.flush()

    def flush(self):
        for event in self.pending:
            self.file.write(json.dumps(event).encode() + b"\n")
        self.pending.clear()
        self.file.flush()


class Timer(contextlib.ContextDecorator):
    total = 0

    def __enter__(self):
        Timer.total += 1
        return self

    def __exit__(self, *error):
        return False


@Timer()
def forward(model, x):
    return model(x)


def main():
    out = sys.argv[1]
    torch.manual_seed(61)
    x, y = torch.randn(88, 5), torch.randn(88, 2)
    loader = DataLoader(TensorDataset(x, y), batch_size=11, shuffle=True)
    model = nn.Sequential(nn.Linear(5, 16), nn.Sigmoid(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    table = io.StringIO()
    step = 0
    with contextlib.ExitStack() as stack, SummaryWriter(out) as writer:
        log = stack.enter_context(open(os.path.join(out, "log.txt"), "w", buffering=1))
        stack.callback(print, "closing after the epochs")
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        with torch.set_grad_enabled(True):
            for epoch in range(5):
                for xb, yb in loader:
                    loss = nn.functional.l1_loss(forward(model, xb), yb)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    step += 1
                    writer.add_scalar("loss", loss.detach(), step)
                    print(f"step {step} loss {loss.item():.8f} timed {Timer.total}")
                    print(step, loss.item(), sep=",", file=table)
                with torch.no_grad(), contextlib.suppress(ZeroDivisionError):
                    total = nn.functional.l1_loss(model(x), y)
                    writer.add_scalar("total", total, epoch)
                    print(f"epoch {epoch} total {total.item():.8f}", file=log)
    with open(os.path.join(out, "table.csv"), "w") as f:
        f.write(table.getvalue())
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, os.path.join(out, "model.pt"))
    sys.exit(3 if total > 0.1 else 0)


if __name__ == "__main__":
    main()
