"""Scripts that are wound back, each as somebody might write it."""

from __future__ import annotations

from typing import Any

START = """
import random, itertools, copy, collections
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset, IterableDataset
torch.manual_seed(1); random.seed(2); np.random.seed(3)
def data(n=48):
    return TensorDataset(torch.randn(n, 6), torch.randint(0, 4, (n,)))
def net():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))
"""

SCRIPTS: dict[str, str] = {
    "plain": """
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
sched = torch.optim.lr_scheduler.StepLR(opt, 2, 0.7)
WATCHED = [model, sched]
losses = []
for epoch in range(2):
    total = 0.0
    for x, y in DataLoader(data(), 4, shuffle=True):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        sched.step()
        total += loss.item()
        losses.append(loss.item())
    print(epoch, total, len(losses))
print(sum(losses))
""",
    "augmented": """
class Augmented(Dataset):
    def __init__(self):
        self.x = torch.randn(48, 6)
        self.rng = np.random.default_rng(5)
    def __len__(self):
        return 48
    def __getitem__(self, i):
        x = self.x[i] + torch.randn(6) * 0.1 + random.random() + np.random.rand() + float(self.rng.random())
        return x, i % 4
model = net()
opt = torch.optim.Adam(model.parameters(), 1e-2)
WATCHED = [model]
loader = DataLoader(Augmented(), 4, shuffle=True, num_workers=WORKERS)
def main():
    for epoch in range(2):
        correct = 0
        for i, (x, y) in enumerate(loader):
            opt.zero_grad(set_to_none=False)
            out = model(x)
            loss = F.cross_entropy(out, y)
            loss.backward()
            opt.step()
            correct += (out.argmax(1) == y).sum().item()
            print(epoch, i, loss.item(), correct, random.random())
main()
""".replace("WORKERS", "0"),
    "trainer": """
class Trainer:
    __slots__ = ("model", "opt", "loader", "steps", "history", "best", "seen", "__dict__")
    made = 0
    def __init__(self):
        self.model = net()
        self.opt = torch.optim.AdamW(self.model.parameters(), 1e-2, amsgrad=True)
        self.loader = DataLoader(data(), 4, shuffle=True)
        self.steps, self.history, self.best, self.seen = 0, [], None, set()
        self.recent = collections.deque(maxlen=3)
        self.counts = collections.Counter()
        self.ema = [p.detach().clone() for p in self.model.parameters()]
    def step(self, x, y):
        self.opt.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.opt.step()
        Trainer.made += 1
        self.steps += 1
        self.seen.add(int(y[0]))
        self.recent.append(loss)
        self.counts[int(y[0])] += 1
        for e, p in zip(self.ema, self.model.parameters()):
            e.mul_(0.9).add_(p.detach(), alpha=0.1)
        return loss.item()
    def fit(self):
        for epoch in range(2):
            total = 0.0
            for x, y in self.loader:
                total += self.step(x, y)
                self.history.append(total)
            self.best = total if self.best is None else min(total, self.best)
            print(epoch, total, self.steps, sorted(self.seen), sum(l.item() for l in self.recent), self.made)
            print(sorted(self.counts.items()), sum(float(e.sum()) for e in self.ema), self.best, len(self.history))
t = Trainer()
WATCHED = [t.model, t.ema]
t.fit()
""",
    "accumulation": """
model = net()
opt = torch.optim.RMSprop(model.parameters(), 1e-2)
WATCHED = [model]
def main():
    running = 0
    for epoch in range(1):
        for i, (x, y) in enumerate(DataLoader(data(96), 4, shuffle=True), start=1):
            loss = F.cross_entropy(model(x), y) / 2
            loss.backward()
            running = running + loss
            if i % 2 == 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                opt.step()
                opt.zero_grad()
                print(i, running.item())
main()
""",
    "while": """
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1, nesterov=True, momentum=0.9)
WATCHED = [model]
loader = DataLoader(data(80), 4, shuffle=True)
it = iter(loader)
n = 0
while n < 18:
    x, y = next(it)
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    n += 1
    print(n, loss.item())
""",
    "steps": """
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
def main():
    it = iter(DataLoader(data(80), 4, shuffle=True))
    ticks = itertools.count(10)
    for step in range(18):
        x, y = next(it)
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        print(step, next(ticks), loss.item())
main()
""",
    "lbfgs": """
model = nn.Linear(6, 4)
opt = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3, line_search_fn="strong_wolfe")
WATCHED = [model]
for x, y in DataLoader(data(), 4):
    def closure():
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss
    print(opt.step(closure).item())
""",
    "scaler": """
model = net()
opt = torch.optim.Adam(model.parameters(), 1e-2)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=3)
WATCHED = [model, scaler]
for x, y in DataLoader(data(), 4, shuffle=True):
    opt.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(opt)
    scaler.step(opt)
    scaler.update()
    print(loss.item(), scaler.get_scale())
""",
    "swa": """
from torch.optim.swa_utils import AveragedModel, SWALR
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
ema = AveragedModel(model, avg_fn=lambda a, p, n: 0.9 * a + 0.1 * p)
swa = SWALR(opt, swa_lr=0.05, anneal_epochs=4)
teacher = copy.deepcopy(model)
WATCHED = [model, ema, teacher]
for x, y in DataLoader(data(), 4, shuffle=True):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y) + F.mse_loss(model(x), teacher(x).detach())
    loss.backward()
    opt.step()
    ema.update_parameters(model)
    swa.step()
    for p, q in zip(teacher.parameters(), model.parameters()):
        p.data.mul_(0.9).add_(q.data, alpha=0.1)
    print(loss.item(), int(ema.n_averaged), swa.get_last_lr())
""",
    "stream": """
class Stream(IterableDataset):
    def __iter__(self):
        for i in range(64):
            yield torch.randn(6) + random.random(), i % 4
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
for i, (x, y) in enumerate(DataLoader(Stream(), 4)):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    print(i, loss.item())
""",
    "unbatched": """
model = nn.Linear(6, 4)
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
for x, y in DataLoader(data(16), batch_size=None, shuffle=True):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    print(loss.item())
""",
    "globals": """
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
seen, best = 0, float("inf")
log = {"losses": [], "last": None}
def counter():
    n = 0
    def count():
        nonlocal n
        n += 1
        return n
    return count
count = counter()
def train_step(batch, memory=[]):
    global seen, best
    x, y = batch
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    seen += len(x)
    best = min(best, loss.item())
    memory.append(seen)
    train_step.calls = getattr(train_step, "calls", 0) + 1
    log["losses"].append(loss.item())
    log["last"] = y.tolist()
    return loss.item()
def main():
    total = 0.0
    for batch in DataLoader(data(), 4, shuffle=True):
        total += train_step(batch)
        print(total, count(), seen, best, train_step.calls)
        print(log["last"], sum(log["losses"]), sum(train_step.__defaults__[0]))
main()
""",
    "several": """
model, extra = net(), DataLoader(data(200), 3, shuffle=True)
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
others = iter(extra)
for i, ((x, y), z) in enumerate(zip(DataLoader(data(), 4, shuffle=True), itertools.count(3))):
    u, v = next(others)
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y) + F.cross_entropy(model(u), v)
    loss.backward()
    opt.step()
    print(i, z, loss.item())
    if i % 3 == 2:
        model.eval()
        with torch.no_grad():
            print(sum(F.cross_entropy(model(x), y).item() for x, y in DataLoader(data(8), 4, shuffle=True)))
        model.train()
""",
    "generator": """
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
g = torch.Generator().manual_seed(4)
def batches(loader):
    count = 0
    for x, y in loader:
        count += 1
        yield x + torch.randn(6, generator=g), y, count
def outer():
    yield from batches(DataLoader(data(), 4, shuffle=True, generator=g))
for x, y, count in outer():
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    print(count, loss.item())
""",
    "replacement": """
from torch.utils.data import RandomSampler
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
g = torch.Generator().manual_seed(4)
source = data(40)
for x, y in DataLoader(source, 4, sampler=RandomSampler(source, replacement=True, num_samples=64, generator=g)):
    opt.zero_grad()
    x = x + torch.randn(6, generator=g)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    print(loss.item())
""",
    "adversarial": """
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
def collate(rows):
    return {"x": torch.stack([r[0] for r in rows]), "y": torch.stack([r[1] for r in rows])}
for batch in DataLoader(data(), 4, shuffle=True, collate_fn=collate):
    y = batch.pop("y")
    x = batch["x"].requires_grad_()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.zero_grad()
    loss = F.cross_entropy(model(x + 0.1 * x.grad.sign()), y)
    loss.backward()
    opt.step()
    print(loss.item(), x.grad.sum().item())
""",
}
SCRIPTS["workers"] = SCRIPTS["augmented"].replace("num_workers=0", "num_workers=2")
SCRIPTS["persistent"] = (
    SCRIPTS["augmented"].replace("num_workers=0", "num_workers=2, persistent_workers=True")
    + "loader._iterator._shutdown_workers()\n"
)
"""Its workers end with it: left to the garbage collector, torch waits 5 s for each, in whichever test that comes."""
SCRIPTS["stateful"] = SCRIPTS["augmented"].replace(
    "loader = DataLoader(", "from torchdata.stateful_dataloader import StatefulDataLoader\nloader = StatefulDataLoader("
)
SCRIPTS["stateful workers"] = SCRIPTS["stateful"].replace("num_workers=0", "num_workers=2")
SCRIPTS["stream of workers"] = SCRIPTS["stream"].replace("Stream(), 4", "Stream(), 4, num_workers=2")
SCRIPTS["tqdm"] = (
    SCRIPTS["augmented"]
    .replace("enumerate(loader)", "enumerate(tqdm(loader, file=io.StringIO()))")
    .replace("class Augmented", "import io\nfrom tqdm import tqdm\nclass Augmented")
)
SCRIPTS["gan"] = """
G, D = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6)), nn.Linear(6, 1)
g_opt, d_opt = torch.optim.Adam(G.parameters(), 1e-2), torch.optim.Adam(D.parameters(), 1e-2)
WATCHED = [G, D, g_opt, d_opt]
def main():
    for x, _ in DataLoader(data(), 4, shuffle=True):
        fake = G(torch.randn(len(x), 3))
        d_opt.zero_grad()
        d_loss = F.softplus(-D(x)).mean() + F.softplus(D(fake.detach())).mean()
        d_loss.backward()
        d_opt.step()
        g_opt.zero_grad()
        g_loss = F.softplus(-D(fake)).mean()
        g_loss.backward()
        g_opt.step()
        print(d_loss.item(), g_loss.item())
main()
"""

SCRIPTS["under way"] = """
import contextlib
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
WATCHED = [model]
log = []
@contextlib.contextmanager
def tracked(name, k):
    before, local = len(log), [k]
    try:
        yield local
    finally:
        local.append(before)
        log.append((name, before, k, sum(local)))
def step(x, y):
    with torch.autocast("cpu", torch.bfloat16), tracked("step", int(y[0])) as local, torch.enable_grad():
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        local.append(7)
    return loss.item()
total = 0
loader = DataLoader(data(), 4, shuffle=True)
losses = [step(x, y) + i for i, (x, y) in enumerate(loader)]
print(losses, log)
for x, y in loader:
    total += step(x, y)
    print(f"{total} {max(total, total + step(x, y))} {len(log)}", {"a": [total, step(x, y)]})
print(log)
"""

REFUSED: dict[str, Any] = {
    "earlier epoch": (SCRIPTS["plain"], 2, 14, "of an earlier epoch"),
    "earlier epoch of workers": (SCRIPTS["workers"], 2, 14, "of an earlier epoch"),
    "earlier epoch of persistent workers": (SCRIPTS["persistent"], 2, 14, "of an earlier epoch"),
    "a graph that waits": (SCRIPTS["gan"], 4, 8, "waits for its backward"),
    "another optimizer": (SCRIPTS["gan"], 5, 8, "at another place"),
    "a sum in C": (
        SCRIPTS["globals"].replace(
            "    total = 0.0\n    for batch in DataLoader(data(), 4, shuffle=True):\n",
            "    print(sum(train_step(batch) for batch in DataLoader(data(), 4)))\n    for batch in ():\n",
        ),
        2, 5, "a function goes over",
    ),
    "a map in C": (
        SCRIPTS["globals"].replace(
            "    total = 0.0\n    for batch in DataLoader(data(), 4, shuffle=True):\n",
            "    print(list(map(train_step, DataLoader(data(), 4, shuffle=True))))\n    for batch in ():\n",
        ),
        2, 5, "cannot be reached",
    ),
    "a count by twos": (SCRIPTS["steps"].replace("count(10)", "count(10, 2)"), 2, 5, "a count"),
    "an iterator of a dictionary": (
        SCRIPTS["steps"].replace("itertools.count(10)", "iter(dict.fromkeys(range(99)))"), 2, 5, "dict_keyiterator"
    ),
    "a loop over a library's iterator": (
        SCRIPTS["unbatched"].replace("for x, y in D", "for (x, y), _ in itertools.zip_longest(D")
        .replace("shuffle=True)", "shuffle=True), ())").replace("for (x, y), _", "for (x, y), _"),
        2, 5, "zip_longest",
    ),
    "another structure": (
        SCRIPTS["plain"].replace("        sched.step()\n", "        sched.step()\n"
            "        if len(losses) == 4: model.add_module('more', nn.Identity())\n"),
        2, 7, "structure of model",
    ),
    "another group": (
        SCRIPTS["plain"].replace("        sched.step()\n", "        sched.step()\n"
            "        if len(losses) == 4: opt.add_param_group({'params': [nn.Parameter(torch.ones(2))]})\n")
        .replace("torch.optim.lr_scheduler.StepLR(opt, 2, 0.7)", "nn.Identity(); sched.step = lambda: 0"),
        2, 7, "parameter groups of",
    ),
    "data that was written": (
        SCRIPTS["plain"].replace("losses = []", "losses, table = [], torch.zeros(600, 600)")
        .replace("        sched.step()\n", "        sched.step()\n        table[len(losses)] += 1\n"),
        2, 7, "table", "large tensor",
    ),
    "data that was written through .data": (
        SCRIPTS["plain"].replace("losses = []", "losses, table = [], torch.zeros(600, 600)")
        .replace("        sched.step()\n", "        sched.step()\n        table.data.add_(1)\n"),
        2, 7, "table", "large tensor",
    ),
    "batches that are written": (
        SCRIPTS["plain"].replace("        opt.zero_grad()\n", "        opt.zero_grad(); x.mul_(1.5)\n"),
        2, 7, "writes into its batches",
    ),
}  # fmt: skip
"""Source, the step of the snapshot, the step of the rewind, and words of the reason."""
