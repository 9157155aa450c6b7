#!/usr/bin/env python3
"""Frames per second of panning and zooming in the page of a run: python3 frames.py RUNNER [ROWS [CHANNELS]]

Makes a series of so many rows and channels (a million of 38), scores it with PCA, serves the run with `runner ui`, shows all
channels, and pans and zooms in headless Chromium, a step a frame. Needs NumPy and pyarrow, chromium and chromedriver.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet

from browser import Browser

PIPELINE = """pipeline: frames
stages:
  raw: {uses: ingest, with: {dataset: parquet, path: series.parquet, label: label, split: {train: 0.01, calibration: 0.01, test: 0.98}}}
  windows: {uses: window, from: raw, with: {length: 1}}
  model: {uses: train, from: windows, with: {model: {kind: pca}}}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics: {uses: evaluate, from: scores, with: {threshold: {kind: quantile, anomaly_ratio: 1}, metrics: [f1]}}
"""

# Frames while a step is taken in each: how long they took, all and the longest.
MOVE = """
const chart = runnerPage.charts.get("s0");
const all = chart.scene.rows;
const times = [];
let last = performance.now();
const frame = () => new Promise((done) => requestAnimationFrame((now) => { times.push(now - last); last = now; done(); }));
await frame();
times.length = 0;
for (let step = 0; step < 120; step++) { MOVES; await frame(); }
times.sort((a, b) => a - b);
return {fps: 1000 * times.length / times.reduce((a, b) => a + b), median: times[60], p95: times[114], longest: times[119]};
"""

MOVES = {
    "pan over all rows": "chart.show(all * step / 240, all * step / 240 + all / 2)",
    "zoom from all rows to 200": "const span = all * (200 / all) ** (step / 119); chart.show(all / 3 - span / 2, all / 3 + span / 2)",
    "pan over single rows": "chart.show(5e5 + step * 10, 5e5 + step * 10 + 1000)",
}


def main():
    runner = Path(sys.argv[1]).resolve()
    rows, channels = (int(text) for text in (sys.argv[2:] + ["1000000", "38"][len(sys.argv) - 2 :])[:2])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        random = numpy.random.default_rng(0)
        waves = numpy.sin(numpy.arange(rows) / 500)
        columns = {f"c{index}": (waves + random.normal(0, 0.2, rows)).astype("float32") for index in range(channels)}
        columns["label"] = (numpy.arange(rows) % 50_000 < 50).astype("uint8")
        pyarrow.parquet.write_table(pyarrow.table(columns), work / "series.parquet")
        (work / "pipeline.yaml").write_text(PIPELINE)
        subprocess.run([runner, "run", "pipeline.yaml", "--quiet"], cwd=work, check=True, stdout=subprocess.DEVNULL)
        server = subprocess.Popen([runner, "ui", "--json"], cwd=work, stdout=subprocess.PIPE, text=True)
        try:
            address = json.loads(server.stdout.readline())["address"]
            browser = Browser()
            browser.open(address)
            browser.eval("document.querySelector('#runs tbody a').click(); return 1")
            browser.eval("while (!window.runnerPage?.charts?.get('s0')) await new Promise((done) => setTimeout(done, 50)); await runnerPage.ready; return 1")
            browser.eval("document.querySelector('[data-all]')?.click(); return 1")
            browser.eval(f"while (document.querySelectorAll('.lane').length < {channels + 1}) await new Promise((done) => setTimeout(done, 100)); return 1")
            for name, move in MOVES.items():
                figures = browser.eval(MOVE.replace("MOVES", move))
                print(f"{name}: {figures['fps']:.1f} frames/s, median {figures['median']:.1f} ms, p95 {figures['p95']:.1f} ms, longest {figures['longest']:.1f} ms")
            status = Path(f"/proc/{server.pid}/status").read_text()
            print("server:", [line for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))])
            browser.close()
        finally:
            server.terminate()
            server.wait()


main()
