"""LBFGS with a closure that is called several times a step."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm1 = nn.LSTMCell(1, 10)
        self.linear = nn.Linear(10, 1)

    def forward(self, inputs):
        outputs = []
        h = torch.zeros(inputs.size(0), 10, dtype=torch.double)
        c = torch.zeros(inputs.size(0), 10, dtype=torch.double)
        for x in inputs.split(1, dim=1):
            h, c = self.lstm1(x, (h, c))
            outputs.append(self.linear(h))
        return torch.cat(outputs, dim=1)


if __name__ == "__main__":
    np.random.seed(0)
    torch.manual_seed(0)
    shift = np.random.randint(-20, 20, (12, 1))
    data = torch.from_numpy(np.sin((np.arange(10) + shift) / 2.0))
    inputs, target = data[3:, :-1], data[3:, 1:]
    test_input, test_target = data[:3, :-1], data[:3, 1:]
    seq = Sequence().double()
    criterion = nn.MSELoss()
    optimizer = optim.LBFGS(seq.parameters(), lr=0.5, max_iter=4, history_size=6, line_search_fn="strong_wolfe")
    evaluations = 0
    curve = []
    for i in range(30):

        def closure():
            global evaluations
            evaluations += 1
            optimizer.zero_grad()
            out = seq(inputs)
            loss = criterion(out, target)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        curve.append(loss.item())
        print("step", i + 1, "loss", loss.item(), "evaluations", evaluations)
        if i % 10 == 9:
            with torch.no_grad():
                test_loss = criterion(seq(test_input), test_target)
            print("test loss:", test_loss.item())
            np.save(f"{sys.argv[1]}/curve{i}.npy", np.array(curve))
    torch.save({"seq": seq.state_dict(), "optimizer": optimizer.state_dict()}, sys.argv[1] + "/model.pt")
