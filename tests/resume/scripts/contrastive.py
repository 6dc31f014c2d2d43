"""Contrastive learning with two random views of each sample, a memory queue and a momentum encoder."""

import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


class TwoViews:
    def __init__(self, *transforms):
        self.transforms = transforms

    def __call__(self, x):
        views = []
        for _ in range(2):
            v = x
            for transform in self.transforms:
                v = transform(v)
            views.append(v)
        return torch.stack(views)


def jitter(x):
    return x + 0.1 * torch.randn_like(x)


def mask(x):
    return x * (torch.rand_like(x) > 0.2)


class Points(Dataset):
    def __init__(self, n, transform):
        self.x, self.transform = torch.randn(n, 12, generator=torch.Generator().manual_seed(0)), transform

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.transform(self.x[i])


class MoCo(nn.Module):
    def __init__(self, dim=8, size=32, m=0.9, T=0.2):
        super().__init__()
        self.m, self.T = m, T
        self.encoder_q = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, dim))
        self.encoder_k = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, dim))
        for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            k.data.copy_(q.data)
            k.requires_grad = False
        self.register_buffer("queue", F.normalize(torch.randn(dim, size), dim=0))
        self.ptr = 0

    def forward(self, im_q, im_k):
        q = F.normalize(self.encoder_q(im_q), dim=1)
        with torch.no_grad():
            for pq, pk in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
                pk.data = pk.data * self.m + pq.data * (1.0 - self.m)
            order = torch.randperm(len(im_k))
            k = F.normalize(self.encoder_k(im_k[order]), dim=1)[order.argsort()]
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.clone().detach()], dim=1) / self.T
        self.queue[:, self.ptr : self.ptr + len(k)] = k.T
        self.ptr = (self.ptr + len(k)) % self.queue.shape[1]
        return logits, torch.zeros(len(q), dtype=torch.long)


def main():
    torch.manual_seed(0)
    loader = DataLoader(Points(64, TwoViews(jitter, mask)), batch_size=8, shuffle=True, drop_last=True)
    model = MoCo()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05, momentum=0.9, weight_decay=1e-4)
    step = 0
    for epoch in range(5):
        for views in loader:
            logits, labels = model(*views.unbind(1))
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            print(f"step {step} loss {loss.item():.8f} top1 {(logits.argmax(1) == 0).float().mean().item():.4f} ptr {model.ptr}")
        torch.save({"epoch": epoch, "model": model.state_dict(), "ptr": model.ptr}, f"{sys.argv[1]}/checkpoint.pt")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{sys.argv[1]}/model.pt")


if __name__ == "__main__":
    main()
