"""Metrics go into an SQLite database that stays open, committed once an epoch; a lock and a compiled regex lie about."""

import re
import sqlite3
import sys
import threading

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NAME = re.compile(r"\.(weight|bias)$")


class Log:
    def __init__(self, path):
        self.lock = threading.Lock()
        self.connection = sqlite3.connect(path)
        self.connection.execute("create table metrics (step integer primary key, epoch integer, loss real)")

    def add(self, step, epoch, loss):
        with self.lock:
            self.connection.execute("insert into metrics values (?, ?, ?)", (step, epoch, loss))

    def mean(self, epoch):
        return self.connection.execute("select avg(loss), count(*) from metrics where epoch = ?", (epoch,)).fetchone()

    def commit(self):
        self.connection.commit()


def main(out):
    torch.manual_seed(55)
    x = torch.randn(60, 4)
    loader = DataLoader(TensorDataset(x, (x > 0).float()), batch_size=10, shuffle=True)
    model = nn.Linear(4, 4)
    groups = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(NAME.search("." + name).group(1), []).append(parameter)
    optimizer = torch.optim.SGD([{"params": ps, "lr": 0.5 if kind == "bias" else 0.2} for kind, ps in groups.items()], lr=0.1)
    log = Log(f"{out}/metrics.db")
    step = 0
    for epoch in range(6):
        for xb, yb in loader:
            loss = nn.functional.multilabel_soft_margin_loss(model(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            log.add(step, epoch, loss.item())
            print(f"step {step} loss {loss.item():.8f}")
        log.commit()
        print("epoch {} mean {:.8f} of {}".format(epoch, *log.mean(epoch)))
    with open(f"{out}/metrics.sql", "w") as f:
        f.writelines(line + "\n" for line in log.connection.iterdump())
    log.connection.close()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{out}/model.pt")


if __name__ == "__main__":
    main(sys.argv[1])
