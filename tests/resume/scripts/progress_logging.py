"""A progress bar of its own on standard error, the logging module with a file handler, an average meter class."""

import logging
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logger = logging.getLogger("train")


class Progress:
    def __init__(self, iterable, desc, width=20, file=sys.stderr):
        self.iterable, self.desc, self.width, self.file = iterable, desc, width, file
        self.n, self.postfix = 0, ""

    def __iter__(self):
        for item in self.iterable:
            self.show()
            yield item
            self.n += 1
        self.show()
        self.file.write("\n")

    def show(self):
        done = int(self.width * self.n / len(self.iterable))
        bar = "#" * done + "." * (self.width - done)
        self.file.write(f"\r{self.desc} |{bar}| {self.n}/{len(self.iterable)} {self.postfix}")
        self.file.flush()

    def set_postfix(self, **values):
        self.postfix = ", ".join(f"{k}={v:.4f}" for k, v in values.items())


class AverageMeter:
    __slots__ = ("avg", "count", "sum", "val")

    def __init__(self):
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def main():
    out = Path(sys.argv[1])
    handler = logging.FileHandler(out / "train.log", mode="w")
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    torch.manual_seed(4)
    x = torch.randn(100, 7)
    y = (x[:, 0] > x[:, 1]).float().unsqueeze(1)
    loader = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=True)
    model = nn.Sequential(nn.Linear(7, 20), nn.Hardswish(), nn.AlphaDropout(0.1), nn.Linear(20, 1))
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.02)
    logger.info("parameters %d", sum(p.numel() for p in model.parameters()))
    step = 0
    for epoch in range(5):
        losses, accs = AverageMeter(), AverageMeter()
        bar = Progress(loader, f"epoch {epoch}")
        for xb, yb in bar:
            logits = model(xb)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            losses.update(loss.item(), len(xb))
            accs.update(((logits > 0) == yb.bool()).float().mean().item(), len(xb))
            bar.set_postfix(loss=losses.avg, acc=accs.avg)
            print(f"step {step} loss {losses.val:.8f} ({losses.avg:.8f})")
            if step % 8 == 0:
                logger.info("step %d loss %.8f acc %.4f", step, losses.avg, accs.avg)
        logger.warning("epoch %d finished, loss %.8f", epoch, losses.avg)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, out / "model.pt")
    logging.shutdown()


main()
