"""Times matplotlib on the line plot of our own benchmark: 224x224 pixels, a frame, ticks and 500 points, as PNG."""

import io
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)
import numpy as np  # noqa: E402

COUNT = 50


def line_plot(values):
    figure, axes = plt.subplots(figsize=(2.24, 2.24), dpi=100)
    axes.plot(values)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return buffer.getvalue()


rows = np.arange(500)
values = np.sin(rows * 0.05) + np.random.default_rng(2).normal(size=500) * 0.2
line_plot(values)
start = time.perf_counter()
for _ in range(COUNT):
    line_plot(values)
seconds = (time.perf_counter() - start) / COUNT
print(f"matplotlib {matplotlib.__version__}: {seconds * 1e3:.2f} ms per picture, {1 / seconds:.1f} per second")
