"""The Anomaly Transformer: 38 channels, window 100, batch 32, three layers of 512 values, both phases in one Adam step."""

import math

import torch
from torch import nn
from torch.nn import functional

CHANNELS, WINDOW, BATCH, WIDTH, HEADS, HIDDEN, LAYERS = 38, 100, 32, 512, 8, 512, 3
WEIGHT, TEMPERATURE = 3.0, 50.0


def positions(length, width):
    """Sines in even columns, cosines in odd ones."""
    steps = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(length).unsqueeze(1) * steps
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class AnomalyAttention(nn.Module):
    """Attention, and beside it a Gaussian of the distance between rows, its width learned per row and head."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.sigma = nn.Linear(WIDTH, HEADS)
        rows = torch.arange(WINDOW, dtype=torch.float32)
        self.register_buffer("distances", (rows.unsqueeze(0) - rows.unsqueeze(1)).square())

    def forward(self, rows):
        query, key, value = (
            part(rows).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        series = (query @ key.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(dim=3)
        sigma = torch.pow(3, torch.sigmoid(5 * self.sigma(rows)) + 1e-5) - 1
        sigma = sigma.transpose(1, 2).unsqueeze(3)
        prior = torch.exp(-self.distances / (2 * sigma.square())) / (math.sqrt(2 * math.pi) * sigma)
        prior = prior / prior.sum(dim=3, keepdim=True)
        return self.out((series @ value).transpose(1, 2).flatten(2)), series, prior


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = AnomalyAttention()
        self.first, self.second = nn.Conv1d(WIDTH, HIDDEN, 1), nn.Conv1d(HIDDEN, WIDTH, 1)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, rows):
        attended, series, prior = self.attention(rows)
        rows = self.norm1(rows + attended)
        hidden = functional.gelu(self.first(rows.transpose(1, 2)))
        return self.norm2(rows + self.second(hidden).transpose(1, 2)), series, prior


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv1d(CHANNELS, WIDTH, 3, padding=1, padding_mode="circular", bias=False)
        self.register_buffer("positions", positions(WINDOW, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.projection = nn.Linear(WIDTH, CHANNELS)

    def forward(self, windows):
        rows = self.embed(windows.transpose(1, 2)).transpose(1, 2) + self.positions
        associations = []
        for layer in self.layers:
            rows, series, prior = layer(rows)
            associations.append((series, prior))
        return self.projection(self.norm(rows)), associations


def divergence(one, other):
    return (one * ((one + 1e-4).log() - (other + 1e-4).log())).sum(dim=3).mean(dim=1)


class Phases:
    """The losses of both phases, whose gradients add up."""

    def __init__(self, losses):
        self.losses = losses

    def backward(self):
        first, second = self.losses
        first.backward(retain_graph=True)
        second.backward()


def build():
    model = Detector()
    windows = torch.randn(BATCH, WINDOW, CHANNELS)

    def loss():
        reconstruction, associations = model(windows)
        error = functional.mse_loss(reconstruction, windows)
        series_loss = prior_loss = 0.0
        for series, prior in associations:
            fixed_series, fixed_prior = series.detach(), prior.detach()
            series_loss = series_loss + (divergence(series, fixed_prior) + divergence(fixed_prior, series)).mean()
            prior_loss = prior_loss + (divergence(prior, fixed_series) + divergence(fixed_series, prior)).mean()
        series_loss, prior_loss = series_loss / LAYERS, prior_loss / LAYERS
        return Phases([error - WEIGHT * series_loss, error + WEIGHT * prior_loss])

    def evaluate():
        reconstruction, associations = model(windows)
        discrepancy = sum(divergence(series, prior) + divergence(prior, series) for series, prior in associations)
        weights = (-TEMPERATURE * discrepancy).softmax(dim=1)
        return weights * (reconstruction - windows).square().mean(dim=2)

    return model, loss, evaluate
