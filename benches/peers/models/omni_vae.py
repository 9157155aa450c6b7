"""The recurrent variational autoencoder of UykiZhao/Graduate: 38 channels, window 100, batch 256, Adam."""

import torch
from torch import nn

CHANNELS, WINDOW, BATCH, STATE, INNER, LATENT, BETA, NOISE = 38, 100, 256, 128, 256, 64, 1.0, 0.05


class Gaussian(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.fc_mean = nn.Linear(inputs, outputs)
        self.fc_logvar = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.fc_mean(x), self.fc_logvar(x).clamp(-20, 5)


class OmniVae(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(CHANNELS, STATE, batch_first=True)
        self.posterior = Gaussian(STATE, LATENT)
        self.fc_hidden = nn.Linear(STATE, INNER)
        self.prior = Gaussian(INNER, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT, INNER), nn.ReLU(), nn.Linear(INNER, WINDOW * CHANNELS))

    def forward(self, windows):
        noisy = windows + NOISE * torch.randn_like(windows) if self.training else windows
        last = self.gru(noisy)[0][:, -1]
        mean, log_variance = self.posterior(last)
        prior_mean, prior_log_variance = self.prior(torch.relu(self.fc_hidden(last)))
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        distance = log_variance.exp() + (mean - prior_mean) ** 2
        divergence = 0.5 * (prior_log_variance - log_variance + distance / prior_log_variance.exp() - 1).sum(1).mean()
        return self.decoder(z).view_as(windows), divergence


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = OmniVae()
    windows = torch.randn(BATCH, WINDOW, CHANNELS)

    def loss():
        reconstruction, divergence = model(windows)
        return nn.functional.mse_loss(reconstruction, windows) + BETA * divergence

    return model, loss, lambda: (model(windows)[0] - windows).square()
