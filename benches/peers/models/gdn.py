"""The graph deviation network: 38 sensors, 15 rows seen and one told, 15 neighbours, batch 128."""

import torch
from torch import nn

SENSORS, PAST, BATCH, SIZE, NEIGHBOURS, DROPOUT = 38, 15, 128, 64, 15, 0.2


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(torch.rand(SENSORS, SIZE) / 4 - 0.125)
        self.encode = nn.Linear(PAST, SIZE)
        self.attention = nn.ParameterList(nn.Parameter(torch.rand(SIZE) / 4 - 0.125) for _ in range(4))
        self.bias = nn.Parameter(torch.zeros(SIZE))
        self.norm, self.mixed_norm = nn.BatchNorm1d(SIZE), nn.BatchNorm1d(SIZE)
        self.dropout, self.output = nn.Dropout(DROPOUT), nn.Linear(SIZE, 1)

    def mask(self):
        unit = nn.functional.normalize(self.embedding.detach(), dim=1)
        similarity = unit @ unit.T
        similarity.fill_diagonal_(2)
        mask = torch.full_like(similarity, float("-inf"))
        return mask.scatter_(1, similarity.topk(NEIGHBOURS + 1, dim=1).indices, 0)

    @staticmethod
    def normalised(norm, states):
        return torch.relu(norm(states.transpose(1, 2)).transpose(1, 2))

    def forward(self, windows):
        states = self.encode(windows)
        own_state, own_embedding, state, embedding = self.attention
        own = states @ own_state + self.embedding @ own_embedding
        other = states @ state + self.embedding @ embedding
        logits = nn.functional.leaky_relu(own.unsqueeze(2) + other.unsqueeze(1), 0.2)
        weights = torch.softmax(logits + self.mask(), dim=2)
        gathered = self.normalised(self.norm, weights @ states + self.bias)
        mixed = self.normalised(self.mixed_norm, gathered * self.embedding)
        return self.output(self.dropout(mixed)).squeeze(2)


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = Forecaster()
    past, following = torch.randn(BATCH, SENSORS, PAST), torch.randn(BATCH, SENSORS)
    return model, lambda: nn.functional.mse_loss(model(past), following), lambda: (model(past) - following).abs()
