"""DynoNet at the sizes of its main program: 336 rows to 96, 7 channels, batch 128; both levels of a step, AdamW."""

import torch
from torch import nn

CHANNELS, LENGTH, HORIZON, BATCH, CONTROL, HIDDEN, RECENT, KERNEL = 7, 336, 96, 128, 64, 8, 96, 25


class Controller(nn.Module):
    """Signals for all workers, from the last state of a recurrent layer."""

    BOUNDS = {"lr": (0.01, 5, 1), "wd": (0.1, 10, 1), "dropout": (0, 0.7, 0.1), "clip": (0.1, 2, 1), "loss": (0.5, 1.5, 1)}

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(CHANNELS, CONTROL, batch_first=True)
        self.bounded = nn.ModuleDict({name: nn.Linear(CONTROL, CHANNELS) for name in self.BOUNDS})
        for name, (low, high, start) in self.BOUNDS.items():
            nn.init.zeros_(self.bounded[name].weight)
            nn.init.constant_(self.bounded[name].bias, torch.logit(torch.tensor((start - low) / (high - low))))
        self.film = nn.Linear(CONTROL, 2 * CHANNELS * HIDDEN)
        self.gate = nn.Linear(CONTROL, CHANNELS * HIDDEN)
        self.noise = nn.Linear(CONTROL, CHANNELS)
        self.context = nn.Linear(CONTROL, HIDDEN)

    def forward(self, windows):
        state = self.gru(windows)[1][-1]
        signals = {
            name: low + (high - low) * torch.sigmoid(self.bounded[name](state))
            for name, (low, high, _) in self.BOUNDS.items()
        }
        film = self.film(state).unflatten(1, (CHANNELS, 2, HIDDEN))
        signals["gamma"], signals["beta"] = 1 + 0.1 * film[:, :, 0].tanh(), 0.1 * film[:, :, 1].tanh()
        signals["gate"] = torch.sigmoid(self.gate(state)).unflatten(1, (CHANNELS, HIDDEN))
        signals["noise"], signals["context"] = 0.5 * self.noise(state).tanh(), self.context(state)
        return signals


class Worker(nn.Module):
    """The residual of one channel, recurrent."""

    def __init__(self):
        super().__init__()
        self.inputs = nn.Linear(1, HIDDEN)
        self.positions = nn.Parameter(0.02 * torch.randn(1, RECENT, HIDDEN))
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.norm = nn.LayerNorm(HIDDEN)
        self.outputs = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HORIZON))

    def forward(self, residual, index, signals, training):
        x = (self.inputs(residual.unsqueeze(2)) + self.positions) * signals["gate"][:, index : index + 1]
        x = self.gru(x)[0]
        x = self.norm(signals["gamma"][:, index : index + 1] * x + signals["beta"][:, index : index + 1])
        if training:
            keep = 1 - signals["dropout"][:, index, None, None]
            x = x * torch.bernoulli(keep.detach().expand_as(x)) / (keep + 1e-8)
        return self.outputs(torch.cat([x[:, -1], signals["context"]], dim=1))


class Dynonet(nn.Module):
    def __init__(self):
        super().__init__()
        self.controller = Controller()
        self.trend = nn.Linear(LENGTH, HORIZON)
        self.workers = nn.ModuleList(Worker() for _ in range(CHANNELS))
        self.mixer = nn.Sequential(
            nn.Linear(CHANNELS, 4 * CHANNELS), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * CHANNELS, CHANNELS)
        )

    def forward(self, windows):
        mean = windows.mean(1, keepdim=True).detach()
        deviation = (windows.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt().detach()
        normalised = (windows - mean) / deviation
        signals = self.controller(normalised)
        if self.training:
            normalised = normalised + signals["noise"].unsqueeze(1)
        columns = normalised.transpose(1, 2)
        padded = nn.functional.pad(columns, (KERNEL // 2, KERNEL // 2), mode="replicate")
        trend = nn.functional.avg_pool1d(padded, KERNEL, 1)
        recent = (columns - trend)[:, :, -RECENT:]
        short = [worker(recent[:, i], i, signals, self.training) for i, worker in enumerate(self.workers)]
        y = (self.trend(trend) + torch.stack(short, 1)).transpose(1, 2)
        return (y + self.mixer(y)) * deviation + mean, signals


def build():
    """The model, nothing, what an evaluation computes, and both levels of a step."""
    model = Dynonet()
    batches = [(torch.randn(BATCH, LENGTH, CHANNELS), torch.randn(BATCH, HORIZON, CHANNELS)) for _ in range(2)]
    worker_part = [p for name, p in model.named_parameters() if not name.startswith("controller")]
    workers = torch.optim.AdamW(worker_part, lr=2e-3, weight_decay=1e-4)
    controller = torch.optim.AdamW(model.controller.parameters(), lr=1e-4, weight_decay=1e-3)

    def step():
        windows, targets = batches[0]
        workers.zero_grad()
        forecasts, signals = model(windows)
        loss = ((forecasts - targets).square() * (signals["lr"] * signals["loss"]).unsqueeze(1)).mean()
        for index, worker in enumerate(model.workers):
            penalty = sum(p.square().sum() for p in worker.parameters())
            loss = loss + 0.5e-4 * signals["wd"][:, index].mean() * penalty
        loss.backward()
        for index, worker in enumerate(model.workers):
            nn.utils.clip_grad_norm_(worker.parameters(), signals["clip"][:, index].mean().item())
        workers.step()
        windows, targets = batches[1]
        controller.zero_grad()
        nn.functional.mse_loss(model(windows)[0], targets).backward()
        controller.step()

    return model, None, lambda: model(batches[0][0])[0], step
