"""A VAE: reparametrization noise, a loss summed by hand, KL annealing, samples after each epoch."""

import argparse
import os

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

parser = argparse.ArgumentParser(description="VAE example")
parser.add_argument("out")
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--log-interval", type=int, default=2)
args = parser.parse_args()

torch.manual_seed(1)
digits = (torch.rand(112, 36) > 0.6).float()
train_loader = DataLoader(digits[:96], batch_size=args.batch_size, shuffle=True)
test_loader = DataLoader(digits[96:], batch_size=args.batch_size, shuffle=False)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(36, 24)
        self.fc21 = nn.Linear(24, 4)
        self.fc22 = nn.Linear(24, 4)
        self.fc3 = nn.Linear(4, 24)
        self.fc4 = nn.Linear(24, 36)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        h1 = F.relu(self.fc1(x))
        mu, logvar = self.fc21(h1), self.fc22(h1)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
beta = 0.0


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x, reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + beta * KLD


def train(epoch):
    global beta
    model.train()
    train_loss = 0
    for batch_idx, data in enumerate(train_loader):
        beta = min(1.0, beta + 0.05)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        print(f"step {(epoch - 1) * len(train_loader) + batch_idx + 1} loss {loss.item() / len(data):.8f} beta {beta:.2f}")
    print(f"====> Epoch: {epoch} Average loss: {train_loss / len(train_loader.dataset):.6f}")


def test(epoch):
    model.eval()
    test_loss = 0
    with torch.no_grad():
        for data in test_loader:
            recon, mu, logvar = model(data)
            test_loss += loss_function(recon, data, mu, logvar).item()
    print(f"====> Test set loss: {test_loss / 16:.6f}")


for epoch in range(1, args.epochs + 1):
    train(epoch)
    test(epoch)
    with torch.no_grad():
        torch.save(model.decode(torch.randn(4, 4)), os.path.join(args.out, f"sample_{epoch}.pt"))
torch.save([model.state_dict(), optimizer.state_dict(), torch.random.get_rng_state()], os.path.join(args.out, "model.pt"))
