"""Scripts that train in several processes, one for each way to start them; run by the tests of this folder."""

from __future__ import annotations

from tests.lean import LEAN

TRAIN = (
    LEAN
    + """
import os, sys
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

def train(number, model, rows=64, workers=0):
    torch.manual_seed(number)
    data = TensorDataset(torch.randn(rows, 6), torch.randint(0, 4, (rows,)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for epoch in range(2):
        for x, y in DataLoader(data, 16, num_workers=workers):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    print("trained", number, flush=True)
"""
)

TORCHRUN = (
    TRAIN
    + """
import torch.distributed as dist
dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Linear(6, 4))
train(dist.get_rank(), model, workers=1)
dist.destroy_process_group()
"""
)

SPAWNED_RANKS = (
    TRAIN
    + """
import torch.distributed as dist, torch.multiprocessing as mp

def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    train(rank, nn.parallel.DistributedDataParallel(nn.Linear(6, 4)))
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(work, args=(os.getcwd(),), nprocs=2)
"""
)

HOGWILD = (
    TRAIN
    + """
import torch.multiprocessing as mp

def work(number, model):
    train(number, model, workers=number)

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    torch.set_num_threads(1)
    model = nn.Linear(6, 4)
    model.share_memory()
    processes = [mp.Process(target=work, args=(number, model)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(process.exitcode for process in processes))
"""
)

FORKED = (
    TRAIN
    + """
train(0, nn.Linear(6, 4))
child = os.fork()
if child == 0:
    train(1, nn.Linear(6, 4))
    sys.exit(0)
_, status = os.waitpid(child, 0)
sys.exit(status)
"""
)

IDLE = (
    TRAIN
    + """
import subprocess, torch.multiprocessing as mp

def work(number):
    return torch.ones(3).sum().item() + number

if __name__ == "__main__":
    with mp.get_context("spawn").Pool(2) as pool:
        print(pool.map(work, [1, 2]))
    print(subprocess.run([sys.executable, "-c", "import torch; print(torch.autograd.backward.__name__)"],
                         capture_output=True, text=True).stdout)
    train(0, nn.Linear(6, 4), workers=2)
"""
)
