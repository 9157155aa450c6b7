"""TVNet as its authors train it on ETTh1: 96 rows of 7 channels, 96 to forecast, width 64, 3 blocks, batch 32, Adam.

Every sample's kernel is applied to the whole batch, as in the authors' program. Ours gives the same numbers from the sum of
the squared weights, so that most of the ratio is algebra; `tvnet.py` compares like with like.
"""

import math

import torch
from torch import nn
from torch.nn import functional

CHANNELS, WINDOW, HORIZON, BATCH, WIDTH, PATCH, STRIDE, BLOCKS = 7, 96, 96, 32, 64, 8, 4, 3


def positions():
    rows = torch.arange(WINDOW)[:, None]
    angles = rows * torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(10000.0) / WIDTH))
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.values = nn.Conv1d(CHANNELS, WIDTH, 3, padding=1, padding_mode="circular", bias=False)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("positions", positions())

    def forward(self, windows):
        return self.dropout(self.values(windows.transpose(1, 2)).transpose(1, 2) + self.positions)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3) / (24 * WIDTH))
        self.period = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.alpha = nn.Conv1d(WIDTH, WIDTH, 1, bias=False)

    def forward(self, planes):
        pooled = torch.relu(self.norm(self.period(planes.mean(dim=3))))
        weights = 1 + self.alpha(pooled.mean(dim=2, keepdim=True))
        kernels = (weights[:, :, :, None, None] * self.kernel).flatten(0, 1)
        return planes + functional.conv_transpose2d(functional.conv2d(planes, kernels), kernels)


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = Embedding()
        self.patching = nn.Conv1d(1, PATCH, PATCH, stride=STRIDE)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.over_time = nn.Linear(2 * WINDOW, HORIZON)
        self.over_width = nn.Linear(WIDTH, CHANNELS)

    def forward(self, windows):
        series = self.embedding(windows).reshape(BATCH * WIDTH, 1, WINDOW)
        series = functional.pad(series, (0, PATCH - STRIDE), mode="replicate")
        patches = self.patching(series).transpose(1, 2).reshape(BATCH, WINDOW // STRIDE, PATCH, WIDTH)
        planes = torch.cat([patches[:, :, 0::2], patches[:, :, 1::2]], dim=2).permute(0, 3, 1, 2)
        for block in self.blocks:
            planes = block(planes)
        rows = planes.reshape(BATCH, 2 * WINDOW, WIDTH)
        return self.over_width(self.over_time(rows.transpose(1, 2)).transpose(1, 2))


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = Forecaster()
    windows, targets = torch.randn(BATCH, WINDOW, CHANNELS), torch.randn(BATCH, HORIZON, CHANNELS)
    return model, lambda: functional.mse_loss(model(windows), targets), lambda: model(windows)
