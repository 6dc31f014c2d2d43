"""The engine of ``two_files.py``: module-level history, a metric logger, functions that are called once an epoch."""

from collections import defaultdict, deque

import torch

history = defaultdict(list)
_total_steps = 0


class MetricLogger:
    def __init__(self, window=4):
        self.meters = defaultdict(lambda: deque(maxlen=window))

    def update(self, **kwargs):
        for k, v in kwargs.items():
            self.meters[k].append(v.item() if isinstance(v, torch.Tensor) else v)

    def __str__(self):
        return " ".join(f"{k}: {sum(v) / len(v):.8f}" for k, v in self.meters.items())

    def log_every(self, iterable, print_freq, header):
        for i, obj in enumerate(iterable):
            yield obj
            if i % print_freq == 0:
                print(f"step {_total_steps} {header} [{i}/{len(iterable)}] {self}")


def train_one_epoch(model, criterion, optimizer, data_loader, epoch, print_freq):
    global _total_steps
    model.train()
    logger = MetricLogger()
    for image, target in logger.log_every(data_loader, print_freq, f"Epoch: [{epoch}]"):
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _total_steps += 1
        logger.update(loss=loss, lr=optimizer.param_groups[0]["lr"])
        history["loss"].append(loss.detach().clone())


@torch.inference_mode()
def evaluate(model, criterion, data_loader):
    model.eval()
    correct = total = 0
    loss = 0.0
    for image, target in data_loader:
        output = model(image)
        loss += criterion(output, target).item()
        correct += (output.argmax(1) == target).sum().item()
        total += len(target)
    history["acc"].append(correct / total)
    print(f"test loss {loss / len(data_loader):.8f} acc {correct / total:.4f}")
    return correct / total
