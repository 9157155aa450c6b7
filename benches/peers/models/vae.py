"""The variational autoencoder of line plots at 224x224: five convolutions to a code of 128 numbers, and back."""

import torch
from torch import nn

BATCH, SIZE, CHANNELS, LATENT, DEVIATION = 8, 224, (3, 32, 64, 128, 256, 512), 128, 0.5


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        pairs = list(zip(CHANNELS, CHANNELS[1:]))
        side = SIZE // 2 ** len(pairs)
        encoder = [nn.Sequential(nn.Conv2d(wide, narrow, 3, 2, 1), nn.ReLU()) for wide, narrow in pairs]
        self.encoder = nn.Sequential(*encoder, nn.Flatten())
        self.mean = nn.Linear(CHANNELS[-1] * side * side, LATENT)
        self.log_variance = nn.Linear(CHANNELS[-1] * side * side, LATENT)
        self.spread = nn.Sequential(nn.Linear(LATENT, CHANNELS[-1] * side * side), nn.ReLU())
        self.smallest = nn.Unflatten(1, (CHANNELS[-1], side, side))
        decoder = []
        for wide, narrow in reversed(pairs):
            decoder += [nn.ConvTranspose2d(narrow, wide, 3, 2, 1, 1), nn.ReLU()]
        self.decoder = nn.Sequential(*decoder[:-1], nn.Sigmoid())

    def forward(self, x):
        encoded = self.encoder(x)
        mean, log_variance = self.mean(encoded), self.log_variance(encoded)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        return self.decoder(self.smallest(self.spread(code))), mean, log_variance


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = Autoencoder()
    images = torch.rand(BATCH, 3, SIZE, SIZE)

    def loss():
        reconstruction, mean, log_variance = model(images)
        errors = nn.functional.mse_loss(reconstruction, images) * (0.5 / DEVIATION**2)
        divergence = (mean**2 + log_variance.exp() - log_variance - 1).sum()
        return errors + 0.5 * divergence / images.numel()

    return model, loss, lambda: model(images)[0]
