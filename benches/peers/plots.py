"""Times matplotlib on the line plots of our own benchmark: its default look, 500 points, as PNG, in two sizes."""

import io
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)
import numpy as np  # noqa: E402

COUNT = 50
DPI = 100


def line_plot(values, width, height):
    figure, axes = plt.subplots(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes.plot(values)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return buffer.getvalue()


rows = np.arange(500)
values = np.sin(rows * 0.05) + np.random.default_rng(2).normal(size=500) * 0.2
for width, height in [(224, 224), (800, 600)]:
    line_plot(values, width, height)
    start = time.perf_counter()
    for _ in range(COUNT):
        line_plot(values, width, height)
    seconds = (time.perf_counter() - start) / COUNT
    rate = 1 / seconds
    print(f"matplotlib {matplotlib.__version__} {width}x{height}: {seconds * 1e3:.2f} ms per picture, {rate:.1f} per second")
