"""A critic with spectral norm and a generator with weight norm; several critic steps for each of the generator's."""

import sys

import torch
from torch import autograd, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.data import DataLoader, TensorDataset

N_CRITIC = 3


def endless(loader):
    while True:
        yield from loader


def penalty(critic, real, fake):
    alpha = torch.rand(len(real), 1)
    mixed = (alpha * real + (1 - alpha) * fake).requires_grad_()
    (grad,) = autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return ((grad.norm(2, dim=1) - 1) ** 2).mean()


def main(out):
    torch.manual_seed(23)
    loader = DataLoader(TensorDataset(torch.randn(70, 2).cumsum(1)), batch_size=14, shuffle=True)
    critic = nn.Sequential(spectral_norm(nn.Linear(2, 16)), nn.LeakyReLU(0.2), spectral_norm(nn.Linear(16, 1)))
    generator = nn.Sequential(weight_norm(nn.Linear(3, 16)), nn.ReLU(), weight_norm(nn.Linear(16, 2)))
    opt_c = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
    opt_g = torch.optim.RMSprop(generator.parameters(), lr=1e-3, centered=True)
    data = endless(loader)
    step, last_g = 0, float("nan")
    log = []
    for iteration in range(15):
        for p in critic.parameters():
            p.requires_grad_(True)
        for _ in range(N_CRITIC):
            (real,) = next(data)
            with torch.no_grad():
                fake = generator(torch.randn(len(real), 3))
            loss_c = critic(fake).mean() - critic(real).mean() + 10 * penalty(critic, real, fake)
            opt_c.zero_grad()
            loss_c.backward()
            opt_c.step()
            step += 1
            print(f"step {step} critic {loss_c.item():.8f}")
        for p in critic.parameters():
            p.requires_grad_(False)
        loss_g = -critic(generator(torch.randn(14, 3))).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        last_g = loss_g.item()
        step += 1
        print(f"step {step} generator {last_g:.8f}")
        log.append({"iteration": iteration, "critic": loss_c.detach(), "generator": last_g})
        if iteration % 5 == 4:
            torch.save(log, f"{out}/log.pt")
    torch.save({"c": critic.state_dict(), "g": generator.state_dict(), "oc": opt_c.state_dict(), "og": opt_g.state_dict()}, f"{out}/model.pt")


if __name__ == "__main__":
    main(sys.argv[1])
