"""A GAN: two optimizers in turn, noise drawn in the loop, samples from fixed noise saved after each epoch."""

import os
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

out = sys.argv[1]
torch.manual_seed(99)
latent = 4
real_data = torch.randn(120, 2) * torch.tensor([0.5, 2.0]) + torch.tensor([1.0, -1.0])
dataloader = DataLoader(TensorDataset(real_data), batch_size=20, shuffle=True)

netG = nn.Sequential(nn.Linear(latent, 16), nn.BatchNorm1d(16), nn.ReLU(True), nn.Linear(16, 2))
netD = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16, 1), nn.Sigmoid())
criterion = nn.BCELoss()
optimizerD = torch.optim.Adam(netD.parameters(), lr=0.002, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=0.002, betas=(0.5, 0.999))
fixed_noise = torch.randn(8, latent)

G_losses = []
D_losses = []
samples = []
iters = 0
for epoch in range(6):
    for i, (real,) in enumerate(dataloader, 0):
        netD.zero_grad()
        label = torch.full((real.size(0),), 1.0)
        errD_real = criterion(netD(real).view(-1), label)
        errD_real.backward()
        noise = torch.randn(real.size(0), latent)
        fake = netG(noise)
        label.fill_(0.0)
        errD_fake = criterion(netD(fake.detach()).view(-1), label)
        errD_fake.backward()
        errD = errD_real + errD_fake
        optimizerD.step()

        netG.zero_grad()
        label.fill_(1.0)
        output = netD(fake).view(-1)
        errG = criterion(output, label)
        errG.backward()
        D_G_z2 = output.mean().item()
        optimizerG.step()

        iters += 1
        print(f"step {iters} [{epoch}/{6}][{i}/{len(dataloader)}] D {errD.item():.8f} G {errG.item():.8f} D(G(z)) {D_G_z2:.6f}")
        G_losses.append(errG.item())
        D_losses.append(errD.item())
    with torch.no_grad():
        samples.append(netG(fixed_noise).detach().cpu())
    torch.save(samples, os.path.join(out, "samples.pt"))

torch.save({"G": netG.state_dict(), "D": netD.state_dict()}, os.path.join(out, "model.pt"))
torch.save({"G": optimizerG.state_dict(), "D": optimizerD.state_dict(), "lossG": G_losses, "lossD": D_losses}, os.path.join(out, "training.pt"))
