"""OmniAnomaly with the whole evidence lower bound: 38 channels, window 100, batch 50, Adam.

The cell is the one of the program, which PyTorch has no fused kernel for: the reset gate acts on the state. Products with
the input are made for all steps at once.
"""

import math

import torch
from torch import nn
from torch.nn.functional import softplus

CHANNELS, WINDOW, BATCH, LATENT, STATE, DENSE, FLOWS, LEAST = 38, 100, 50, 3, 500, 500, 20, 1e-4


class Recurrent(nn.Module):
    """A gated recurrent unit and two linear layers."""

    def __init__(self, inputs):
        super().__init__()
        self.from_input = nn.Linear(inputs, 3 * STATE)
        self.gates = nn.Linear(STATE, 2 * STATE, bias=False)
        self.candidate = nn.Linear(STATE, STATE, bias=False)
        self.dense = nn.Sequential(nn.Linear(STATE, DENSE), nn.Linear(DENSE, DENSE))

    def forward(self, x):
        gates, candidates = self.from_input(x).split((2 * STATE, STATE), dim=2)
        state, states = x.new_zeros(len(x), STATE), []
        for gate, candidate in zip(gates.unbind(1), candidates.unbind(1)):
            reset, update = torch.sigmoid(gate + self.gates(state)).chunk(2, dim=1)
            candidate = torch.tanh(candidate + self.candidate(reset * state))
            state = update * state + (1 - update) * candidate
            states.append(state)
        return self.dense(torch.stack(states, dim=1))


class Planar(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(0.01 * torch.randn(LATENT))
        self.u = nn.Parameter(0.01 * torch.randn(LATENT))
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, z):
        product = self.w @ self.u
        direction = self.u + (softplus(product) - 1 - product) * self.w / (self.w @ self.w)
        activation = torch.tanh(z @ self.w + self.b)
        volume = torch.log(torch.abs(1 + (1 - activation**2) * (self.w @ direction)))
        return z + activation.unsqueeze(-1) * direction, volume


def log_normal(x, mean, deviation):
    return -0.5 * math.log(2 * math.pi) - torch.log(deviation) - 0.5 * ((x - mean) / deviation) ** 2


class OmniAnomaly(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.p = Recurrent(CHANNELS), Recurrent(LATENT)
        self.z_mean, self.z_std = nn.Linear(DENSE + LATENT, LATENT), nn.Linear(DENSE + LATENT, LATENT)
        self.x_mean, self.x_std = nn.Linear(DENSE, CHANNELS), nn.Linear(DENSE, CHANNELS)
        self.flows = nn.ModuleList(Planar() for _ in range(FLOWS))

    def sample(self, h):
        z, all_z, log_q = h.new_zeros(len(h), LATENT), [], []
        for row in h.unbind(1):
            joined = torch.cat((row, z), dim=1)
            mean, deviation = self.z_mean(joined), softplus(self.z_std(joined)) + LEAST
            z = mean + deviation * torch.randn_like(mean)
            all_z.append(z)
            log_q.append(log_normal(z, mean, deviation).sum(-1))
        return torch.stack(all_z, dim=1), torch.stack(log_q, dim=1)

    def log_prior(self, z):
        """A random walk, observed with noise, by the Kalman filter."""
        mean, variance, total = z.new_zeros(len(z), LATENT), 1.0, []
        for row in z.unbind(1):
            spread, gain = variance + 1, variance / (variance + 1)
            total.append(log_normal(row, mean, z.new_tensor(math.sqrt(spread))).sum(-1))
            mean, variance = mean + gain * (row - mean), variance * (1 - gain) + 1
        return torch.stack(total, dim=1)

    def forward(self, windows):
        z, log_q = self.sample(self.q(windows))
        for flow in self.flows:
            z, volume = flow(z)
            log_q = log_q - volume
        h = self.p(z)
        log_x = log_normal(windows, self.x_mean(h), softplus(self.x_std(h)) + LEAST)
        return log_x, z, log_q


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = OmniAnomaly()
    windows = torch.randn(BATCH, WINDOW, CHANNELS)

    def loss():
        log_x, z, log_q = model(windows)
        return -(log_x.sum(-1) + model.log_prior(z) - log_q).mean()

    return model, loss, lambda: -model(windows)[0]
