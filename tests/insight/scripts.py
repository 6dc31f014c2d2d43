"""Training scripts of many kinds. Each computes by brute force, at the end, what a scan at that moment must say.

``after_step(*modules)`` keeps their states after each step, and ``brute(*states)`` gives the loss of every sample of
the first loader's data set in evaluation mode. That is written to the file that the script's first argument names.
"""

from __future__ import annotations

HEAD = """
import copy, json, sys, torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

torch.manual_seed(0)
taken = []

def after_step(*modules):
    taken.append([copy.deepcopy(module.state_dict()) for module in modules])
"""

TAIL = """
if len(sys.argv) > 1:
    with open(sys.argv[1], "w") as file:
        json.dump([brute(*states) for states in taken], file)
"""

CLASSIFIER = """
x, y = torch.randn(90, 8), torch.randint(0, 3, (90,))
make = lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
net = make()
optimizer = torch.optim.SGD(net.parameters(), 0.1)
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
valid_loader = DataLoader(TensorDataset(x[:30], y[:30]), batch_size=16)
for epoch in range(2):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), targets)
        loss.backward()
        optimizer.step()
        after_step(net)
        print(loss.item())

def brute(state):
    model = make()
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        return F.cross_entropy(model(x), y, reduction="none").tolist()
"""

MSE = """
x, y = torch.randn(80, 5), torch.randn(80)
make = lambda: nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Dropout(0.2), nn.Linear(12, 1))
net, criterion = make(), nn.MSELoss()
optimizer = torch.optim.Adam(net.parameters(), 0.01)
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True, drop_last=True)
for epoch in range(3):
    running = 0.0
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = criterion(net(inputs).squeeze(1), targets)
        running += loss.item() * inputs.size(0)
        loss.backward()
        optimizer.step()
        after_step(net)
    print(running)

def brute(state):
    model = make().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        return F.mse_loss(model(x).squeeze(1), y, reduction="none").tolist()
"""

CUSTOM = """
x, y = torch.randn(70, 6), torch.randint(0, 2, (70,)).float()
make = lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 1), nn.Flatten(0))

class Focal(nn.Module):
    def __init__(self, gamma):
        super().__init__()
        self.gamma = gamma

    def forward(self, given, wanted):
        plain = F.binary_cross_entropy_with_logits(given, wanted, reduction="none")
        return ((1 - torch.exp(-plain)) ** self.gamma * plain).mean()

net, criterion = make(), Focal(2.0)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad(set_to_none=False)
        loss = criterion(net(inputs), targets)
        loss.backward()
        optimizer.step()
        after_step(net)
        print(loss.item())

def brute(state):
    model = make().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        plain = F.binary_cross_entropy_with_logits(model(x), y, reduction="none")
        return ((1 - torch.exp(-plain)) ** 2.0 * plain).tolist()
"""

VAE = """
x = torch.rand(64, 12)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, given):
        mean, log = self.encode(given).chunk(2, 1)
        latent = mean + torch.randn_like(mean) * torch.exp(0.5 * log) if self.training else mean
        return torch.sigmoid(self.decode(latent)), mean, log

net = Net()
optimizer = torch.optim.Adam(net.parameters(), 0.01)
loader = DataLoader(TensorDataset(x), batch_size=16, shuffle=True)
for epoch in range(3):
    for (inputs,) in loader:
        optimizer.zero_grad()
        out, mean, log = net(inputs)
        loss = F.binary_cross_entropy(out, inputs, reduction="sum") - 0.5 * torch.sum(1 + log - mean**2 - log.exp())
        loss.backward()
        optimizer.step()
        after_step(net)
        print(loss.item())

def brute(state):
    model = Net().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        out, mean, log = model(x)
        both = F.binary_cross_entropy(out, x, reduction="none").sum(1)
        return (both - 0.5 * (1 + log - mean**2 - log.exp()).sum(1)).tolist()
"""

GAN = """
x = torch.randn(64, 6) + 2
make = lambda: nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(16, 1))
critic, maker = make(), nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 6))
critics, makers = torch.optim.Adam(critic.parameters(), 0.01), torch.optim.Adam(maker.parameters(), 0.01)
loader = DataLoader(TensorDataset(x), batch_size=16, shuffle=True)
for epoch in range(3):
    for (real,) in loader:
        critics.zero_grad()
        size = real.size(0)
        right = F.binary_cross_entropy_with_logits(critic(real), torch.ones(size, 1))
        right.backward()
        fakes = maker(torch.randn(size, 3))
        wrong = F.binary_cross_entropy_with_logits(critic(fakes.detach()), torch.zeros(size, 1))
        wrong.backward()
        critics.step()
        after_step(critic)
        makers.zero_grad()
        fooled = F.binary_cross_entropy_with_logits(critic(fakes), torch.ones(size, 1))
        fooled.backward()
        makers.step()
        print(right.item(), wrong.item(), fooled.item())

def brute(state):
    model = make().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        return F.softplus(-model(x)).flatten().tolist()
"""

SIAMESE = """
class Pairs(Dataset):
    def __init__(self):
        self.left, self.right = torch.randn(60, 7), torch.randn(60, 7)
        self.same = torch.randint(0, 2, (60,)).float()

    def __len__(self):
        return 60

    def __getitem__(self, place):
        return self.left[place], self.right[place], self.same[place]

pairs = Pairs()
make = lambda: nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 4))
net = make()
optimizer = torch.optim.SGD(net.parameters(), 0.05)
loader = DataLoader(pairs, batch_size=13, shuffle=True)

def contrast(left, right, same):
    distance = F.pairwise_distance(left, right)
    return same * distance**2 + (1 - same) * torch.clamp(1.5 - distance, min=0) ** 2

for epoch in range(3):
    for left, right, same in loader:
        optimizer.zero_grad()
        loss = contrast(net(left), net(right), same).mean()
        loss.backward()
        optimizer.step()
        after_step(net)
        print(loss.item())

def brute(state):
    model = make().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        return contrast(model(pairs.left), model(pairs.right), pairs.same).tolist()
"""

SEQUENCE = """
tokens = torch.randint(0, 11, (50, 9))
tokens[::3, 6:] = 10

class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.out = nn.Embedding(11, 8), nn.GRU(8, 12, batch_first=True), nn.Linear(12, 11)

    def forward(self, given):
        return self.out(self.cell(self.embed(given))[0])

net = Language()
optimizer = torch.optim.AdamW(net.parameters(), 0.01)
loader = DataLoader(TensorDataset(tokens), batch_size=8, shuffle=True)
for epoch in range(2):
    for (batch,) in loader:
        inputs, targets = batch[:, :-1], batch[:, 1:]
        optimizer.zero_grad()
        logits = net(inputs)
        loss = F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1), ignore_index=10)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        after_step(net)
        print(loss.item())

def brute(state):
    model = Language().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        each = F.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:], ignore_index=10, reduction="none")
        return (each.sum(1) / (tokens[:, 1:] != 10).sum(1)).tolist()
"""

SEGMENTATION = """
images, masks = torch.randn(24, 2, 8, 8), torch.randint(0, 3, (24, 8, 8))
make = lambda: nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1))
net = make()
optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
loader = DataLoader(TensorDataset(images, masks), batch_size=5, shuffle=True)
for epoch in range(2):
    for image, mask in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(image), mask)
        loss.backward()
        optimizer.step()
        after_step(net)
        print(loss.item())

def brute(state):
    model = make().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        return F.cross_entropy(model(images), masks, reduction="none").mean((1, 2)).tolist()
"""

LBFGS = """
x, y = torch.randn(40, 4), torch.randn(40, 1)
make = lambda: nn.Linear(4, 1)
net = make()
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3)
loader = DataLoader(TensorDataset(x, y), batch_size=20)
for epoch in range(4):
    for inputs, targets in loader:
        def closure():
            optimizer.zero_grad()
            loss = F.mse_loss(net(inputs), targets)
            loss.backward()
            return loss

        print(optimizer.step(closure).item())
        after_step(net)

def brute(state):
    model = make().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        return F.mse_loss(model(x), y, reduction="none").flatten().tolist()
"""

MIXED = """
x, y = torch.randn(60, 8), torch.randint(0, 4, (60,))
make = lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
net, scaler = make(), torch.amp.GradScaler("cpu", init_scale=1024.0)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
whole = TensorDataset(x, y)
part, rest = random_split(whole, [40, 20])
loader = DataLoader(rest, batch_size=8, shuffle=True)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(net(inputs), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        after_step(net)
        print(loss.item())

def brute(state):
    model = make().eval()
    model.load_state_dict(state)
    found = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for place in range(0, 20, 8):
            chosen = list(rest.indices[place : place + 8])
            each = F.cross_entropy(model(x[chosen]), y[chosen], reduction="none")
            found.update(zip(chosen, each.float().tolist()))
    return found
"""
