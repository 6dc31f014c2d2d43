"""A batch sampler of its own with a random.Random: sequences of like length in a bucket; padded by a collate function."""

import random
import sys

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler


class Words(Dataset):
    def __init__(self, n, seed):
        rng = random.Random(seed)
        self.items = []
        for _ in range(n):
            length = rng.randint(2, 9)
            tokens = [rng.randint(1, 19) for _ in range(length)]
            self.items.append((torch.tensor(tokens), int(sum(tokens) % 2)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class BucketSampler(Sampler):
    def __init__(self, lengths, batch_size, seed):
        self.lengths, self.batch_size = lengths, batch_size
        self.rng = random.Random(seed)
        self.rounds = 0

    def __iter__(self):
        self.rounds += 1
        order = sorted(range(len(self.lengths)), key=lambda i: (self.lengths[i], self.rng.random()))
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        self.rng.shuffle(batches)
        yield from batches

    def __len__(self):
        return (len(self.lengths) + self.batch_size - 1) // self.batch_size


def collate(batch):
    tokens, labels = zip(*batch)
    lengths = torch.tensor([len(t) for t in tokens])
    return pad_sequence(tokens, batch_first=True), lengths, torch.tensor(labels)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8, padding_idx=0)
        self.gru = nn.GRU(8, 12, batch_first=True)
        self.fc = nn.Linear(12, 2)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        return self.fc(self.gru(packed)[1][-1])


def main(out, epochs=5):
    torch.manual_seed(14)
    data = Words(75, seed=14)
    sampler = BucketSampler([len(t) for t, _ in data.items], 8, seed=15)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate)
    model, step = Classifier(), 0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, 1e-3, 1e-2, step_size_up=7, cycle_momentum=False)
    for epoch in range(epochs):
        for tokens, lengths, labels in loader:
            optimizer.zero_grad(set_to_none=False)
            loss = nn.functional.cross_entropy(model(tokens, lengths), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            print(f"step {step} loss {loss.item():.8f} length {tokens.shape[1]} x {tokens.shape[0]}")
        print(f"epoch {epoch} rounds {sampler.rounds} draw {sampler.rng.random():.8f}")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{out}/model.pt")


if __name__ == "__main__":
    main(sys.argv[1])
