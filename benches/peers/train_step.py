"""One training step of the TVNet reconstructor in PyTorch: same sizes, same optimiser, same thread count.

Prints `NAME MILLISECONDS` per line: medians over repeated runs after a warm-up.
"""

import statistics
import sys
import time

import torch
from torch import nn

CHANNELS, WINDOW, BATCH, INNER, PATCH, BLOCKS = 38, 100, 128, 32, 8, 3


class WeightGenerator(nn.Module):
    """Weights per channel and patch: 1 + a share of the patch + a share of the whole window."""

    def __init__(self, width):
        super().__init__()
        self.fintra = nn.Conv1d(width, width, 1)
        self.bn = nn.BatchNorm1d(width)
        self.finter = nn.Conv1d(width, width, 1)

    def forward(self, planes):
        intra = torch.relu(self.bn(self.fintra(planes.mean(dim=3))))
        return 1 + self.finter(intra.mean(dim=2, keepdim=True)) + intra


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight_gen = WeightGenerator(width)
        self.conv2d = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, planes):
        weights = self.weight_gen(planes).unsqueeze(3)
        return torch.relu(weights * self.norm(self.conv2d(planes))) + planes


class Reconstructor(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv1d(CHANNELS, INNER, 1)
        self.blocks = nn.ModuleList(Block(INNER) for _ in range(BLOCKS))
        self.reconstruct = nn.Conv1d(INNER, CHANNELS, 1)

    def forward(self, windows):
        embedded = self.embed(windows)
        embedded = nn.functional.pad(embedded, (0, -WINDOW % PATCH))
        planes = embedded.unflatten(2, (-1, PATCH))
        for block in self.blocks:
            planes = block(planes)
        return self.reconstruct(planes.flatten(2)[:, :, :WINDOW])


def median_milliseconds(work, repeats):
    for _ in range(max(5, repeats // 10)):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main():
    threads, repeats = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Reconstructor()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    windows = torch.randn(BATCH, CHANNELS, WINDOW)

    def step():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(windows), windows)
        loss.backward()
        optimizer.step()

    def evaluate():
        with torch.no_grad():
            return (model(windows) - windows).square()

    print("train_step", median_milliseconds(step, repeats))
    model.eval()
    print("evaluate", median_milliseconds(evaluate, repeats))


main()
