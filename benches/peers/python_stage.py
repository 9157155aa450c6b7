#!/usr/bin/env python3
"""What a `python` stage costs beside the same function called by hand, and beside Snakemake's `script:`.

python3 python_stage.py RUNNER PYTHON SNAKEMAKE DATA [ROUNDS], by `python_stage.sh`.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MACHINE = "machine-1-6"
LENGTHS = list(range(100, 108))

PIPELINE = """pipeline: python_stage
seed: 1
stages:
  raw: {uses: ingest, with: {dataset: smd, entity: MACHINE, split: {train: 1.0}}}
  once:
    uses: python
    from: {series: raw}
    with: {detector: "moving_average.py:moving_average", params: {length: 99}, splits: [test], environment: {python: "PYTHON"}}
  often:
    uses: python
    from: {series: raw}
    foreach: {length: LENGTHS}
    with: {detector: "moving_average.py:moving_average", params: {length: "${length}"}, splits: [test], environment: {python: "PYTHON"}}
  few: {uses: generate, with: {channels: 38, rows: {train: 100, validation: 50, calibration: 50, test: 100}}}
  memory_of_few:
    uses: python
    from: {series: few}
    with: {detector: "memory.py:memory", splits: [test], environment: {python: "PYTHON"}}
  memory_of_all:
    uses: python
    from: {series: raw}
    with: {detector: "memory.py:memory", splits: [test], environment: {python: "PYTHON"}}
"""

# The whole of what a user writes without any tool. Prints the seconds of the part that is theirs.
BY_HAND = """import sys, time
import numpy as np
from moving_average import moving_average
start = time.perf_counter()
train, test = np.load("train.npy"), np.load("test.npy")
np.save("scores.npy", moving_average(test, int(sys.argv[1])))
print(time.perf_counter() - start)
"""

MEMORY = """import resource
import numpy as np

def memory(values):
    values.sum()
    print("KIB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
    return np.zeros(len(values))
"""

SNAKEFILE = """rule all:
    input: "scores.npy"
rule score:
    input: train="train.npy", test="test.npy"
    output: "scores.npy"
    script: "script.py"
"""

SCRIPT = """import sys
import numpy as np
sys.path.insert(0, WORK)
from moving_average import moving_average
train, test = np.load(snakemake.input.train), np.load(snakemake.input.test)
np.save(snakemake.output[0], moving_average(test, 99))
"""


def timed(command, work, **more):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=work, check=True, capture_output=True, text=True, **more)
    return time.perf_counter() - start, done.stdout


def stage_seconds(runner, work):
    """Seconds of each stage of the last run, by its name."""
    _, text = timed([runner, "show", "latest", "--json"], work)
    return {stage["name"]: stage["seconds"] for stage in json.loads(text)["stages"] if "seconds" in stage}


def values_of(folder, part):
    lines = (Path(folder) / f"ServerMachineDataset/{part}/{MACHINE}.txt").read_text().split()
    return [[float(field) for field in line.split(",")] for line in lines]


def main():
    runner, python, snakemake = (str(Path(argument).absolute()) for argument in sys.argv[1:4])
    folder, rounds = sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 5
    environment = {**os.environ, "RUNNER_DATA_PATH": folder}
    times = {name: [] for name in ("hand", "hand process", "cold", "warm", "snakemake")}
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        shutil.copy(ROOT / "pipelines/detectors/moving_average.py", work)
        pipeline = PIPELINE.replace("PYTHON", python).replace("MACHINE", MACHINE).replace("LENGTHS", str(LENGTHS))
        for name, text in (
            ("pipeline.yaml", pipeline), ("by_hand.py", BY_HAND), ("memory.py", MEMORY), ("Snakefile", SNAKEFILE),
            ("script.py", SCRIPT.replace("WORK", repr(place))),
        ):
            (work / name).write_text(text)
        save = "import json, sys, numpy; numpy.save(sys.argv[1], numpy.array(json.load(sys.stdin), 'f4'))"
        for part in ("train", "test"):
            timed([python, "-c", save, f"{part}.npy"], work, input=json.dumps(values_of(folder, part)))
        rows, width = len(values_of(folder, "test")), len(values_of(folder, "test")[0])
        for _ in range(rounds):
            for length in LENGTHS[:3]:
                whole, inside = timed([python, "by_hand.py", str(length)], work)
                times["hand process"].append(whole)
                times["hand"].append(float(inside))
            for target in ("raw", "once", "often"):
                timed([runner, "run", "pipeline.yaml", "--quiet", "--target", target], work, env=environment)
                found = stage_seconds(runner, work)
                if target == "once":
                    times["cold"].append(found["once"])
                if target == "often":
                    # The first of them starts the interpreter.
                    often = [seconds for name, seconds in found.items() if name.startswith("often[")]
                    times["warm"] += sorted(often)[:-1]
            shutil.rmtree(work / "cache")
            command = [snakemake, "--cores", "1", "--quiet", "all", "--nolock", "--forceall"]
            times["snakemake"].append(timed(command, work)[0])
        peaks = []
        for target in ("memory_of_few", "memory_of_all"):
            timed([runner, "run", "pipeline.yaml", "--quiet", "--target", target], work, env=environment)
            (log,) = work.glob(f"cache/v1/runs/*/logs/{target}*")
            peaks.append(int(log.read_text().split("KIB ")[1].split()[0]))
    middle = {name: statistics.median(found) for name, found in times.items()}
    print(f"{rows} x {width} values, medians of {rounds} rounds")
    print(f"by hand: the function with reading and writing {middle['hand'] * 1000:.0f} ms, the whole process {middle['hand process'] * 1000:.0f} ms")
    print(f"a stage whose interpreter starts: {middle['cold'] * 1000:.0f} ms, {(middle['cold'] - middle['hand process']) * 1000:+.0f} ms")
    print(f"a stage whose interpreter waits: {middle['warm'] * 1000:.0f} ms, {(middle['warm'] - middle['hand']) * 1000:+.0f} ms")
    print(f"Snakemake with `script:`: {middle['snakemake'] * 1000:.0f} ms, {(middle['snakemake'] - middle['hand process']) * 1000:+.0f} ms")
    array = rows * width * 4 / 1024
    few, peak = peaks
    print(f"memory: {peak / 1024:.1f} MiB, {few / 1024:.1f} MiB for 100 rows: {(peak - few) / array:.2f} times the array of {array / 1024:.1f} MiB")


main()
