"""TVNet as published (`form: paper`) at the sizes of `tvnet_official.py`: a kernel per patch, samples apart."""

import torch
from torch import nn
from torch.nn import functional

from .tvnet_official import BATCH, BLOCKS, CHANNELS, HORIZON, PATCH, STRIDE, WIDTH, WINDOW, Embedding

PATCHES = WINDOW // STRIDE


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.intra = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.intra_norm = nn.BatchNorm1d(WIDTH)
        self.inter = nn.Conv1d(WIDTH, WIDTH, 1, bias=False)
        self.kernel = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm = nn.BatchNorm3d(WIDTH)

    def forward(self, patches):
        # [batch, patches, width, 2, PATCH / 2]; scaling what a kernel gives is to scale its output channels.
        means = patches.mean(dim=(3, 4)).transpose(1, 2)
        intra = torch.relu(self.intra_norm(self.intra(means)))
        weights = 1 + intra + self.inter(intra.mean(dim=2, keepdim=True))
        convolved = self.kernel(patches.flatten(0, 1)).unflatten(0, (BATCH, PATCHES))
        dynamic = convolved * weights.transpose(1, 2)[:, :, :, None, None]
        return patches + torch.relu(self.norm(dynamic.transpose(1, 2)).transpose(1, 2))


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = Embedding()
        self.patching = nn.Conv1d(1, PATCH, PATCH, stride=STRIDE)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.over_time = nn.Linear(PATCHES * PATCH, HORIZON)
        self.over_width = nn.Linear(WIDTH, CHANNELS)

    def forward(self, windows):
        mean = windows.mean(dim=1, keepdim=True)
        deviation = torch.sqrt(windows.var(dim=1, keepdim=True, unbiased=False) + 1e-5)
        embedded = self.embedding((windows - mean) / deviation)
        series = embedded.transpose(1, 2).reshape(BATCH * WIDTH, 1, WINDOW)
        series = functional.pad(series, (0, PATCH - STRIDE), mode="replicate")
        patches = self.patching(series).reshape(BATCH, WIDTH, PATCH, PATCHES).permute(0, 3, 1, 2)
        patches = torch.stack([patches[..., 0::2], patches[..., 1::2]], dim=3)
        for block in self.blocks:
            patches = block(patches)
        rows = patches.transpose(3, 4).permute(0, 2, 1, 3, 4).reshape(BATCH, WIDTH, PATCHES * PATCH)
        return self.over_width(self.over_time(rows).transpose(1, 2)) * deviation + mean


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = Forecaster()
    windows, targets = torch.randn(BATCH, WINDOW, CHANNELS), torch.randn(BATCH, HORIZON, CHANNELS)
    return model, lambda: functional.mse_loss(model(windows), targets), lambda: model(windows)
