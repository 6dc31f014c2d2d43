"""A character model by truncated backpropagation: the hidden state goes from batch to batch, detached."""

import math
import sys

import torch
import torch.nn as nn

TEXT = "the quick brown fox jumps over the lazy dog and runs away into the dark green wood. " * 8
chars = sorted(set(TEXT))
stoi = {c: i for i, c in enumerate(chars)}
BATCH, BPTT = 8, 10


class CharRNN(nn.Module):
    def __init__(self, vocab, hidden=20):
        super().__init__()
        self.embed = nn.Embedding(vocab, 12)
        self.drop = nn.Dropout(0.2)
        self.rnn = nn.LSTM(12, hidden, num_layers=2, dropout=0.1)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, x, hidden):
        y, hidden = self.rnn(self.drop(self.embed(x)), hidden)
        return self.out(y).view(-1, self.out.out_features), hidden

    def init_hidden(self, n):
        weight = next(self.parameters())
        return weight.new_zeros(2, n, 20), weight.new_zeros(2, n, 20)


def repackage_hidden(h):
    return h.detach() if isinstance(h, torch.Tensor) else tuple(repackage_hidden(v) for v in h)


def get_batch(source, i):
    length = min(BPTT, len(source) - 1 - i)
    return source[i : i + length], source[i + 1 : i + 1 + length].view(-1)


def generate(model, n):
    model.eval()
    x, hidden, text = torch.zeros(1, 1, dtype=torch.long), model.init_hidden(1), ""
    with torch.no_grad():
        for _ in range(n):
            logits, hidden = model(x, hidden)
            x = torch.multinomial(logits.softmax(-1), 1)
            text += chars[x.item()]
    return text


torch.manual_seed(1111)
ids = torch.tensor([stoi[c] for c in TEXT])
source = ids[: len(ids) // BATCH * BATCH].view(BATCH, -1).t().contiguous()
model = CharRNN(len(chars))
criterion = nn.CrossEntropyLoss()
lr, best, step = 5.0, None, 0
optimizer = torch.optim.SGD(model.parameters(), lr=lr)
with open(f"{sys.argv[1]}/samples.txt", "w") as samples:
    for epoch in range(1, 6):
        model.train()
        total = 0.0
        hidden = model.init_hidden(BATCH)
        for i in range(0, source.size(0) - 1, BPTT):
            data, targets = get_batch(source, i)
            hidden = repackage_hidden(hidden)
            optimizer.zero_grad()
            output, hidden = model(data, hidden)
            loss = criterion(output, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            step += 1
            total += loss.item() * len(data)
            print(f"step {step} loss {loss.item():.8f} ppl {math.exp(loss.item()):.4f}")
        mean = total / source.size(0)
        samples.write(f"{epoch}: {generate(model, 30)}\n")
        if best is None or mean < best:
            best = mean
            torch.save(model, f"{sys.argv[1]}/best.pt")
        else:
            lr /= 4.0
            for group in optimizer.param_groups:
                group["lr"] = lr
        print(f"end of epoch {epoch} | lr {lr} | loss {mean:.8f}")
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "hidden": hidden}, f"{sys.argv[1]}/model.pt")
