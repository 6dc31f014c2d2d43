"""A character-level language model on Python's own reference: a plain PyTorch script.

The text is what ``help()`` knows of the language (``pydoc_data.topics``), which every CPython brings. A sample is a
window of characters, its target the character that follows.
"""

import argparse
import math
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

CONTEXT = 24


class Windows(Dataset):
    """Every ``stride``-th window of a text, and the character after it."""

    def __init__(self, codes, stride):
        self.codes = codes
        self.stride = stride

    def __len__(self):
        return (len(self.codes) - CONTEXT - 1) // self.stride + 1

    def __getitem__(self, index):
        start = index * self.stride
        return self.codes[start : start + CONTEXT], self.codes[start + CONTEXT]


class Transformer(nn.Module):
    """Two layers of attention over the window; the last position predicts."""

    def __init__(self, characters, width=48):
        super().__init__()
        self.embed = nn.Embedding(characters, width)
        self.places = nn.Parameter(torch.randn(CONTEXT, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.predict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, characters))

    def forward(self, windows):
        return self.predict(self.layers(self.embed(windows) + self.places)[:, -1])


def unigram_perplexity(train, valid, characters):
    """What knowing only how frequent each character is would give."""
    frequency = (torch.bincount(train, minlength=characters) + 1.0) / (len(train) + characters)
    return frequency[valid].log().mean().neg().exp().item()


def evaluate(model, loader):
    model.eval()
    loss = correct = count = 0
    with torch.no_grad():
        for windows, following in loader:
            logits = model(windows)
            loss += F.cross_entropy(logits, following, reduction="sum").item()
            correct += (logits.argmax(1) == following).sum().item()
            count += len(following)
    return math.exp(loss / count), correct / count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="where to save the final state")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # matrices this small are slower on more
    text = "\n".join(topics[name] for name in sorted(topics))[:60_000]
    characters = sorted(set(text))
    codes = torch.tensor([characters.index(character) for character in text])
    train, valid = codes[:54_000], codes[54_000:]
    train_loader = DataLoader(Windows(train, 6), args.batch_size, shuffle=True, num_workers=args.workers)
    valid_loader = DataLoader(Windows(valid, 9), 512)

    model = Transformer(len(characters))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.epochs * len(train_loader))
    print(f"unigram  perplexity {unigram_perplexity(train, valid, len(characters)):.3f}")
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for windows, following in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(windows), following)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        perplexity, accuracy = evaluate(model, valid_loader)
        mean = total / len(train_loader)
        print(f"epoch {epoch}  train {mean:.4f}  perplexity {perplexity:.3f}  accuracy {accuracy:.4f}", flush=True)

    if args.save:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                    "random": torch.get_rng_state()}, args.save)  # fmt: skip


if __name__ == "__main__":
    main()
