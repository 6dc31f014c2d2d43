"""Accelerate: prepare(), accumulate(), clip_grad_norm_ and a prepared scheduler."""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    out = sys.argv[1]
    set_seed(19)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    x = torch.randn(100, 5)
    y = torch.sin(x).sum(1, keepdim=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    model = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Dropout(0.1), nn.Linear(20, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=30)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    step = 0
    for epoch in range(5):
        model.train()
        total = 0.0
        for batch in loader:
            with accelerator.accumulate(model):
                xb, yb = batch
                loss = nn.functional.mse_loss(model(xb), yb)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.detach().item()
            if accelerator.sync_gradients:
                step += 1
                accelerator.print(f"step {step} loss {loss.item():.8f} lr {scheduler.get_last_lr()[0]:.8f}")
        accelerator.print(f"epoch {epoch} loss {total / len(loader):.8f}")
    accelerator.wait_for_everyone()
    unwrapped = accelerator.unwrap_model(model)
    accelerator.save({"model": unwrapped.state_dict(), "optimizer": optimizer.optimizer.state_dict()}, f"{out}/model.pt")


if __name__ == "__main__":
    main()
