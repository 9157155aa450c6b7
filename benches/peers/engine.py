"""Times runner as a whole process: one DAG beside DVC and Snakemake, a wide pipeline, and the main job.

The DAG of the comparison is PAIRS pairs of stages; the first of a pair copies a file of its own, the second copies the
copy. Each tool gets the same files and the same `cp`. Called by engine.sh; see there.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TEXT = "runner pipeline for the benchmark of the engine; generated\n"


class Tool:
    """A program with its way to say: run this DAG, and: what would you do?"""

    def __init__(self, name, write, run, status, first_rounds):
        self.name, self.write, self.run, self.status, self.first_rounds = name, write, run, status, first_rounds


def write_inputs(folder, pairs):
    for pair in range(pairs):
        (folder / f"source_{pair}.txt").write_text(f"the content of source {pair}\n")


def write_for_runner(folder, pairs):
    lines = [f"# {TEXT}pipeline: copies", "stages:"]
    for pair in range(pairs):
        lines.append(
            f"  first_{pair}: {{uses: command, with: {{run: [cp, '{{file.source}}', '{{out.copy}}'], "
            f"files: {{source: source_{pair}.txt}}, outputs: {{copy: {{path: copy.txt}}}}}}}}"
        )
        lines.append(
            f"  second_{pair}: {{uses: command, from: {{copy: first_{pair}}}, with: {{run: [cp, "
            f"'{{in.copy}}/copy.txt', '{{out.again}}'], outputs: {{again: {{path: again.txt}}}}}}}}"
        )
    (folder / "pipeline.yaml").write_text("\n".join(lines) + "\n")


def write_for_dvc(folder, pairs, dvc):
    lines = ["stages:"]
    for pair in range(pairs):
        steps = [
            (f"first_{pair}", f"source_{pair}.txt", f"copy_{pair}.txt"),
            (f"second_{pair}", f"copy_{pair}.txt", f"again_{pair}.txt"),
        ]
        for name, source, target in steps:
            lines += [f"  {name}:", f"    cmd: cp {source} {target}", f"    deps: [{source}]", f"    outs: [{target}]"]
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    for command in (["init", "--no-scm", "--quiet"], ["config", "core.analytics", "false"]):
        subprocess.run([dvc, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def write_for_snakemake(folder, pairs):
    lines = ["rule all:", f"    input: expand('again_{{pair}}.txt', pair=range({pairs}))", ""]
    for pair in range(pairs):
        steps = [
            (f"first_{pair}", f"source_{pair}.txt", f"copy_{pair}.txt"),
            (f"second_{pair}", f"copy_{pair}.txt", f"again_{pair}.txt"),
        ]
        for name, source, target in steps:
            lines += [f"rule {name}:", f"    input: '{source}'", f"    output: '{target}'"]
            lines += ["    shell: 'cp {input} {output}'", ""]
    (folder / "Snakefile").write_text("\n".join(lines))


def measure(command, folder):
    """Runs a command to its end. Returns wall seconds and the CPU seconds of it and all that it waited for."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    with open(folder / "output.log", "w") as output:
        start = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        tail = (folder / "output.log").read_text()[-2000:]
        sys.exit(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{tail}")
    return wall, usage.ru_utime + usage.ru_stime


def median(measurements):
    """The median wall and CPU time, the fastest wall time, and how many there were."""
    walls, cpus = zip(*measurements)
    return statistics.median(walls), statistics.median(cpus), min(walls), len(walls)


def tools(options):
    binaries = pathlib.Path(options.peers) / "bin"
    runner, dvc, snakemake = options.runner, str(binaries / "dvc"), str(binaries / "snakemake")
    cores = str(os.cpu_count())
    return [
        Tool(
            "runner",
            write_for_runner,
            [runner, "run", "pipeline.yaml", "--store", "cache", "--quiet"],
            [runner, "plan", "pipeline.yaml", "--store", "cache", "--quiet"],
            max(options.rounds, 5),
        ),
        Tool(
            "dvc",
            lambda folder, pairs: write_for_dvc(folder, pairs, dvc),
            [dvc, "repro", "--quiet"],
            [dvc, "status", "--quiet"],
            options.first_rounds,
        ),
        Tool(
            "snakemake",
            write_for_snakemake,
            [snakemake, "--cores", cores, "--quiet", "all"],
            [snakemake, "--cores", cores, "--quiet", "all", "--dry-run"],
            options.first_rounds,
        ),
    ]


def time_tool(tool, options, scratch):
    first = []
    for _ in range(tool.first_rounds):
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{tool.name}-", dir=scratch))
        write_inputs(folder, options.pairs)
        tool.write(folder, options.pairs)
        os.sync()
        first.append(measure(tool.run, folder))
    rounds = options.rounds * (5 if tool.name == "runner" else 1)
    again = [measure(tool.run, folder) for _ in range(rounds)]
    status = [measure(tool.status, folder) for _ in range(rounds)]
    return {"first run": median(first), "no-op": median(again), "status": median(status)}


def compare(options, scratch):
    results = {tool.name: time_tool(tool, options, scratch) for tool in tools(options)}
    print(f"{2 * options.pairs} stages of `cp`, {os.cpu_count()} cores; medians in seconds, ratios of wall time to runner's")
    print(f"{'':10} {'':10} {'wall':>9} {'cpu':>9} {'fastest':>9} {'times':>6} {'ratio':>8}")
    for what in ("first run", "no-op", "status"):
        for name, result in results.items():
            wall, cpu, fastest, times = result[what]
            ratio = wall / results["runner"][what][0]
            print(f"{what:10} {name:10} {wall:9.4f} {cpu:9.4f} {fastest:9.4f} {times:6} {ratio:8.1f}")
    return results


def row(what, measurements):
    wall, cpu, fastest, times = median(measurements)
    print(f"{what:34} {wall * 1e3:9.1f} {cpu * 1e3:9.1f} {fastest * 1e3:9.1f} {times:6}")
    return wall


def heading(title):
    print(f"\n{title}; milliseconds")
    print(f"{'':34} {'wall':>9} {'cpu':>9} {'fastest':>9} {'times':>6}")


def write_wide(folder, stages):
    lines = ["pipeline: wide", "seed: 1", "stages:"]
    for pair in range(stages // 2):
        # The noise differs, so that no two stages are the same.
        rows = "rows: {train: 8, validation: 0, calibration: 0, test: 4}"
        with_ = f"channels: 1, {rows}, day: 24, anomaly_ratio: 0, noise: {0.01 + pair * 1e-6:.6f}"
        lines.append(f"  generate_{pair}: {{uses: generate, with: {{{with_}}}}}")
        lines.append(f"  normalize_{pair}: {{uses: normalize, from: generate_{pair}, with: {{method: zscore}}}}")
    (folder / "wide.yaml").write_text("\n".join(lines) + "\n")


def wide(options, scratch):
    heading(f"{options.stages} stages (tiny `generate` and `normalize`), whole process")
    first, plans = [], []
    for _ in range(options.first_rounds):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="wide-", dir=scratch))
        write_wide(folder, options.stages)
        plans.append(measure([options.runner, "plan", "wide.yaml", "--store", "cache"], folder))
        os.sync()
        first.append(measure([options.runner, "run", "wide.yaml", "--store", "cache", "--quiet"], folder))
    row("plan, nothing there", plans)
    wall = row("first run", first)
    rounds = options.rounds * 3
    row("plan, all there", [measure([options.runner, "plan", "wide.yaml", "--store", "cache"], folder) for _ in range(rounds)])
    again = [options.runner, "run", "wide.yaml", "--store", "cache", "--quiet"]
    row("no-op", [measure(again, folder) for _ in range(rounds)])
    print(f"first run per stage: {wall / options.stages * 1e3:.3f} ms")


def main_job(options, scratch):
    pipeline = pathlib.Path(__file__).resolve().parents[2] / "pipelines" / "smd_tvnet.yaml"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="main-", dir=scratch))
    command = [options.runner, "run", str(pipeline), "--set", "epochs=1", "--store", "cache", "--quiet"]
    heading("the main job, pipelines/smd_tvnet.yaml with epochs=1, whole process")
    row("first run", [measure(command, folder)])
    row("no-op", [measure(command, folder) for _ in range(options.rounds * 10)])
    row("plan", [measure([command[0], "plan", *command[2:-1]], folder) for _ in range(options.rounds * 10)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["compare", "wide", "main"])
    parser.add_argument("--runner", required=True, help="the program")
    parser.add_argument("--peers", default="target/peers/engine", help="virtual environment of DVC and Snakemake")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--stages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="no-ops of each peer; runner gets more")
    parser.add_argument("--first-rounds", type=int, default=3, help="first runs of each peer")
    parser.add_argument("--json", help="write the comparison to this file as well")
    options = parser.parse_args()
    options.runner = str(pathlib.Path(options.runner).resolve())
    options.peers = str(pathlib.Path(options.peers).absolute())
    scratch = tempfile.mkdtemp(prefix="runner-bench-", dir=os.environ.get("RUNNER_BENCH_SCRATCH"))
    try:
        results = {"compare": compare, "wide": wide, "main": main_job}[options.what](options, scratch)
        if options.json and results:
            pathlib.Path(options.json).write_text(json.dumps(results))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
