"""A small language model: tied weights, gradient checkpointing, parameter groups, LambdaLR with warm-up, random crops."""

import math
import os
import sys

import numpy as np
import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

out_dir = sys.argv[1]
max_iters, eval_interval, grad_accum = 40, 10, 2
batch_size, block_size, vocab = 4, 12, 17
torch.manual_seed(1337)
np.random.seed(1337)
data = np.random.randint(0, vocab, 600).astype(np.uint16)
train_data, val_data = data[:500], data[500:]


def get_batch(split):
    source = train_data if split == "train" else val_data
    ix = torch.randint(len(source) - block_size, (batch_size,))
    x = torch.stack([torch.from_numpy(source[i : i + block_size].astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy(source[i + 1 : i + 1 + block_size].astype(np.int64)) for i in ix])
    return x, y


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d), nn.Dropout(0.1))

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (part.view(b, t, 2, c // 2).transpose(1, 2) for part in self.qkv(self.ln1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, d), nn.Embedding(block_size, d)
        self.blocks = nn.ModuleList(Block(d) for _ in range(2))
        self.lm_head = nn.Linear(d, vocab, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.training else block(x)
        return F.cross_entropy(self.lm_head(x).view(-1, vocab), targets.view(-1))


@torch.no_grad()
def estimate_loss():
    model.eval()
    result = {split: np.mean([model(*get_batch(split)).item() for _ in range(2)]) for split in ("train", "val")}
    model.train()
    return result


model = GPT()
decay = [p for p in model.parameters() if p.dim() >= 2]
no_decay = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0, "lr": 5e-3}], lr=1e-2)
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda it: (it + 1) / 8 if it < 8 else 0.5 * (1 + math.cos(math.pi * (it - 8) / (max_iters - 8)))
)
iter_num, best_val_loss = 0, 1e9
X, Y = get_batch("train")  # the first batch
while True:
    if iter_num % eval_interval == 0:
        losses = estimate_loss()
        print(f"eval {iter_num}: train {losses['train']:.8f} val {losses['val']:.8f}")
        if losses["val"] < best_val_loss:
            best_val_loss = losses["val"]
            torch.save({"model": model.state_dict(), "iter_num": iter_num, "best": best_val_loss}, os.path.join(out_dir, "ckpt.pt"))
    if iter_num >= max_iters:
        break
    for micro_step in range(grad_accum):
        loss = model(X, Y) / grad_accum
        X, Y = get_batch("train")  # the next one while the device works
        loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    scheduler.step()
    iter_num += 1
    print(f"step {iter_num} loss {loss.item() * grad_accum:.8f} norm {norm.item():.6f} lr {scheduler.get_last_lr()}")
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, os.path.join(out_dir, "model.pt"))
