"""Semi-supervised: zip of a cycled labelled loader and an unlabelled one, two optimizers with schedulers of their own."""

import itertools
import json
import sys
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

out = sys.argv[1]
torch.manual_seed(17)
labelled = TensorDataset(torch.randn(24, 6), torch.randint(0, 3, (24,)))
unlabelled = TensorDataset(torch.randn(90, 6))
labelled_loader = DataLoader(labelled, batch_size=8, shuffle=True)
unlabelled_loader = DataLoader(unlabelled, batch_size=10, shuffle=True)

encoder = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.25))
head = nn.Linear(16, 3)
opt_encoder = torch.optim.Adam(encoder.parameters(), lr=1e-2)
opt_head = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.8)
schedulers = [
    torch.optim.lr_scheduler.ExponentialLR(opt_encoder, gamma=0.95),
    torch.optim.lr_scheduler.MultiStepLR(opt_head, milestones=[10, 25], gamma=0.3),
]

meters = defaultdict(list)
step = 0
for epoch in range(4):
    for (x, y), (u,) in zip(itertools.cycle(labelled_loader), unlabelled_loader):
        encoder.train()
        supervised = F.cross_entropy(head(encoder(x)), y)
        weak = head(encoder(u))
        strong = head(encoder(u + 0.2 * torch.randn_like(u)))
        with torch.no_grad():
            pseudo = weak.softmax(1)
            mask = (pseudo.max(1).values > 0.4).float()
        consistency = (F.cross_entropy(strong, pseudo.argmax(1), reduction="none") * mask).mean()
        loss = supervised + 0.5 * consistency
        opt_encoder.zero_grad()
        opt_head.zero_grad()
        loss.backward()
        opt_encoder.step()
        opt_head.step()
        for scheduler in schedulers:
            scheduler.step()
        step += 1
        meters["supervised"].append(supervised.item())
        meters["mask"].append(mask.sum().item())
        print(f"step {step} supervised {supervised.item():.8f} consistency {consistency.item():.8f} mask {int(mask.sum())}")
    print(f"epoch {epoch}", {name: round(sum(values) / len(values), 8) for name, values in meters.items()})
    with open(f"{out}/meters.json", "w") as f:
        json.dump(meters, f)

torch.save(
    {
        "encoder": encoder.state_dict(), "head": head.state_dict(), "opts": [opt_encoder.state_dict(), opt_head.state_dict()],
        "schedulers": [s.state_dict() for s in schedulers],
    },
    f"{out}/model.pt",
)
