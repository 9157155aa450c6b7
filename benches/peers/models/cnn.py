"""The small convolutional forecaster: 38 channels, 100 rows seen and one told, batch 128."""

import torch
from torch import nn

CHANNELS, PAST, BATCH, WIDTHS, DROPOUT = 38, 100, 128, (32, 32, 40), 0.25


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        layers, width = [], CHANNELS
        for following in WIDTHS:
            layers += [nn.Conv1d(width, following, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2)]
            width = following
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(width, CHANNELS)
        )

    def forward(self, windows):
        found = self.convolutions(windows)
        return self.head(torch.cat([found.mean(dim=2), found.amax(dim=2)], dim=1))


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = Forecaster()
    past, following = torch.randn(BATCH, CHANNELS, PAST), torch.randn(BATCH, CHANNELS)
    return model, lambda: nn.functional.mse_loss(model(past), following), lambda: (model(past) - following).square()
