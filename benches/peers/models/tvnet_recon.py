"""The TVNet reconstructor: 38 channels, window 100, batch 128, Adam."""

import torch
from torch import nn

CHANNELS, WINDOW, BATCH, INNER, PATCH, BLOCKS = 38, 100, 128, 32, 8, 3


class WeightGenerator(nn.Module):
    """Weights per channel and patch: 1 + a share of the patch + a share of the whole window."""

    def __init__(self, width):
        super().__init__()
        self.fintra = nn.Conv1d(width, width, 1)
        self.bn = nn.BatchNorm1d(width)
        self.finter = nn.Conv1d(width, width, 1)

    def forward(self, planes):
        intra = torch.relu(self.bn(self.fintra(planes.mean(dim=3))))
        return 1 + self.finter(intra.mean(dim=2, keepdim=True)) + intra


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight_gen = WeightGenerator(width)
        self.conv2d = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, planes):
        weights = self.weight_gen(planes).unsqueeze(3)
        return torch.relu(weights * self.norm(self.conv2d(planes))) + planes


class Reconstructor(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv1d(CHANNELS, INNER, 1)
        self.blocks = nn.ModuleList(Block(INNER) for _ in range(BLOCKS))
        self.reconstruct = nn.Conv1d(INNER, CHANNELS, 1)

    def forward(self, windows):
        embedded = self.embed(windows)
        embedded = nn.functional.pad(embedded, (0, -WINDOW % PATCH))
        planes = embedded.unflatten(2, (-1, PATCH))
        for block in self.blocks:
            planes = block(planes)
        return self.reconstruct(planes.flatten(2)[:, :, :WINDOW])


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = Reconstructor()
    windows = torch.randn(BATCH, CHANNELS, WINDOW)
    return model, lambda: nn.functional.mse_loss(model(windows), windows), lambda: (model(windows) - windows).square()
