"""One training step of a model in PyTorch: same sizes, same optimiser, same thread count as ours.

Usage: train_step.py MODEL THREADS SECONDS [DEVICE]. A model is a file in models/ whose `build()` gives the module, the loss of a
step and what an evaluation computes, and after these a step of its own if the plain one will not do. Prints
`NAME MILLISECONDS` per line: medians over repeated runs after a warm-up.
"""

import importlib
import statistics
import sys
import time

import torch


def median_milliseconds(work, seconds):
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    work()
    work()
    wait()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main():
    name, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.set_default_device(sys.argv[4] if len(sys.argv) > 4 else "cpu")
    model, loss, evaluation, *own_step = importlib.import_module(f"models.{name}").build()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    def evaluate():
        with torch.no_grad():
            return evaluation()

    print("train_step", median_milliseconds(own_step[0] if own_step else step, seconds))
    model.eval()
    print("evaluate", median_milliseconds(evaluate, seconds))


main()
