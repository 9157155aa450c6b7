"""An autoencoder of rows in PyTorch: a row is as anomalous as it is badly reconstructed."""

import torch
from torch import nn

import runner


class Autoencoder:
    def __init__(self, hidden=32, code=8, epochs=10, batch=256, rate=1e-3):
        self.hidden, self.code, self.epochs, self.batch, self.rate = hidden, code, epochs, batch, rate

    def network(self, width):
        return nn.Sequential(
            nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, self.code), nn.ReLU(),
            nn.Linear(self.code, self.hidden), nn.ReLU(), nn.Linear(self.hidden, width),
        )

    def fit(self, values):
        rows = torch.from_numpy(values)
        self.model = self.network(rows.shape[1])
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.rate)
        for epoch in range(self.epochs):
            total = 0.0
            for batch in rows[torch.randperm(len(rows))].split(self.batch):
                loss = nn.functional.mse_loss(self.model(batch), batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            runner.progress(epoch=epoch + 1, epochs=self.epochs, loss=total / len(rows))

    @torch.no_grad()
    def decision_function(self, values):
        rows = torch.from_numpy(values)
        return ((self.model(rows) - rows) ** 2).mean(dim=1)
