"""How the time of each model grows with rows, channels and the window's length.

    benches/growth.py RUNNER [MODEL…]

Each model is trained for one epoch and scores (or forecasts) a generated series, at a base size and with one size four times as
large. A figure is the order of growth between the two, the logarithm of the ratio of times to the base of four: 1 is in
proportion, 2 is the square. Times below 50 ms say little and are left out.
"""

import json
import math
import os
import subprocess
import sys
import tempfile

BASE = {"rows": 1600, "channels": 16, "window": 32}
FACTOR = 4
LEAST_MS = 50.0

DETECTORS = """naive moving-average var kalman pca kmeans-ad isolation-forest dlinear cnn gdn vae tvnet-recon tvnet
transformer-recon anomaly-transformer omni-vae omni-anomaly""".split()
FORECASTERS = ["dynonet"]
# Its workers see so many rows.
OWN = {"dynonet": {"window": 96}}

PIPELINE = """pipeline: growth
stages:
  raw: {{uses: generate, with: {{channels: {channels}, day: 24, rows: {{train: {rows}, validation: 400, calibration: 400, test: {rows}}}}}}}
  scaled: {{uses: normalize, from: raw}}
  windows: {{uses: window, from: scaled, with: {{length: {window}{horizon}}}}}
  model: {{uses: train, from: windows, with: {{task: {task}, model: {{kind: {model}}}{epochs}}}}}
  result: {{uses: {result}, from: {{model: model, windows: windows}}}}
"""


def milliseconds(runner, folder, model, task, sizes, learns):
    """Of training and of scoring, or why there are none."""
    text = PIPELINE.format(
        model=model,
        task=task,
        result="score" if task == "detect" else "forecast",
        horizon="" if task == "detect" else ", horizon: 8",
        epochs=", epochs: 1" if learns else "",
        **sizes,
    )
    with open(os.path.join(folder, "growth.yaml"), "w", encoding="utf-8") as file:
        file.write(text)
    command = [runner, "run", "growth.yaml", "--quiet", "--force", "model", "--force", "result"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[0]
    shown = subprocess.run([runner, "show", "latest", "--json"], cwd=folder, capture_output=True, text=True, check=True)
    seconds = {stage["name"]: stage["seconds"] for stage in json.loads(shown.stdout)["stages"]}
    return [1000.0 * seconds[name] for name in ("model", "result")]


def order(base, large):
    if large < LEAST_MS:
        return "-"
    return f"{math.log(large / max(base, 1.0)) / math.log(FACTOR):.1f}"


def main():
    runner, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    axes = list(BASE)
    print("| model | ms, training and scoring | " + " | ".join(axes) + " |")
    print("|---" * (len(axes) + 2) + "|")
    for model in wanted or DETECTORS + FORECASTERS:
        task = "forecast" if model in FORECASTERS else "detect"
        learns, sizes = True, BASE | OWN.get(model, {})
        with tempfile.TemporaryDirectory() as folder:
            base = milliseconds(runner, folder, model, task, sizes, learns)
            if isinstance(base, str) and "epochs" in base:
                learns = False
                base = milliseconds(runner, folder, model, task, sizes, learns)
            if isinstance(base, str):
                print(f"| {model} | {base} |", flush=True)
                continue
            cells = []
            for axis in axes:
                large = milliseconds(runner, folder, model, task, sizes | {axis: FACTOR * sizes[axis]}, learns)
                if isinstance(large, str):
                    cells.append(large)
                    continue
                cells.append(", ".join(order(*pair) for pair in zip(base, large)))
        print(f"| {model} | {base[0]:.0f}, {base[1]:.0f} | " + " | ".join(cells) + " |", flush=True)


main()
