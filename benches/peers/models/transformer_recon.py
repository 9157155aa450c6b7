"""The Transformer reconstructor: 38 channels, window 100, batch 256, two layers of 128 values, Adam."""

import math

import torch
from torch import nn
from torch.nn import functional

CHANNELS, WINDOW, BATCH, WIDTH, HEADS, HIDDEN, LAYERS = 38, 100, 256, 128, 4, 256, 2
DROPOUT, NOISE, SMOOTHNESS = 0.1, 0.05, 0.01


def positions(length, width):
    """Sines in even columns, cosines in odd ones."""
    steps = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(length).unsqueeze(1) * steps
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class Attention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows):
        query, key, value = (
            part(rows).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        found = self.dropout(scores.softmax(dim=3)) @ value
        return self.out(found.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention(WIDTH, HEADS, DROPOUT)
        self.first, self.second = nn.Conv1d(WIDTH, HIDDEN, 1), nn.Conv1d(HIDDEN, WIDTH, 1)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, rows):
        rows = self.norm1(rows + self.dropout(self.attention(rows)))
        hidden = self.dropout(functional.gelu(self.first(rows.transpose(1, 2))))
        return self.norm2(rows + self.dropout(self.second(hidden).transpose(1, 2)))


class Reconstructor(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv1d(CHANNELS, WIDTH, 3, padding=1, padding_mode="circular", bias=False)
        self.register_buffer("positions", positions(WINDOW, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)
        self.pre_norm, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.reconstructor = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, CHANNELS)
        )

    def forward(self, windows):
        if self.training:
            windows = windows + NOISE * torch.randn_like(windows)
        embedded = self.embed(windows.transpose(1, 2)).transpose(1, 2) + self.positions
        encoded = self.norm(self.layers(self.pre_norm(self.dropout(embedded))))
        return self.reconstructor(encoded), encoded


def build():
    model = Reconstructor()
    windows = torch.randn(BATCH, WINDOW, CHANNELS)

    def loss():
        reconstruction, encoded = model(windows)
        steps = (encoded[:, 1:] - encoded[:, :-1]).square().mean()
        return functional.smooth_l1_loss(reconstruction, windows) + SMOOTHNESS * steps

    return model, loss, lambda: (model(windows)[0] - windows).square()
