#!/usr/bin/env python3
"""Checks that two builds of runner are the same to their users: what one computed, the other finds under the same keys.

    scripts/same-results.py keep OLD FOLDER            OLD computes every pipeline in FOLDER, and its results are noted
    scripts/same-results.py compare NEW FOLDER         NEW must find all of them: every stage a hit, every digest and metric equal

The pipelines are those in pipelines/ (with `--profile smoke` where a file has such a profile) and one of 10,000 stages.
`--only NAME` limits them. Data comes from RUNNER_DATA_PATH; a pipeline that OLD cannot run, such as for want of
data, is left out by both and named. Exit code 1 if anything differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDE = 10_000


def pipelines(folder):
    """Name to the arguments that choose a pipeline."""
    found = {}
    for path in sorted((ROOT / "pipelines").glob("*.yaml")):
        smoke = ["--profile", "smoke"] if "\n  smoke:" in path.read_text() else []
        found[path.stem] = [str(path), *smoke]
    found["wide"] = [str(write_wide(folder))]
    return found


def write_wide(folder):
    """Pairs of tiny stages, no two alike."""
    lines = ["pipeline: wide", "seed: 1", "stages:"]
    rows = "rows: {train: 8, validation: 0, calibration: 0, test: 4}"
    for pair in range(WIDE // 2):
        parameters = f"channels: 1, {rows}, day: 24, anomaly_ratio: 0, noise: {0.01 + pair * 1e-6:.6f}"
        lines.append(f"  generate_{pair}: {{uses: generate, with: {{{parameters}}}}}")
        lines.append(f"  normalize_{pair}: {{uses: normalize, from: generate_{pair}, with: {{method: zscore}}}}")
    path = folder / "wide.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(runner, choice, store):
    """The record of a run, or why there is none."""
    command = [runner, "run", *choice, "--store", str(store), "--offline", "--quiet"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["no message"])[0]
    shown = subprocess.run([runner, "show", "latest", "--store", str(store), "--json"], capture_output=True, text=True)
    return json.loads(shown.stdout), None


def results(record):
    """What must stay: keys, digests and metrics, by stage."""
    metrics = record.get("metrics", {})
    return {
        stage["name"]: {"key": stage["key"], "digests": stage["digests"], "metrics": metrics.get(stage["name"])}
        for stage in record["stages"]
    }


def keep(options, chosen):
    kept = {}
    for name, choice in chosen.items():
        record, problem = run(options.runner, choice, options.folder / "store")
        if record is None:
            print(f"{name}: left out: {problem}")
            continue
        kept[name] = results(record)
        print(f"{name}: {len(kept[name])} stages", flush=True)
    (options.folder / "results.json").write_text(json.dumps(kept))
    return 0 if kept else 1


def compare(options, chosen):
    kept = json.loads((options.folder / "results.json").read_text())
    worst = 0
    for name, before in kept.items():
        if name not in chosen:
            continue
        record, problem = run(options.runner, chosen[name], options.folder / "store")
        problems = [problem] if record is None else differences(before, record)
        worst |= bool(problems)
        print(f"{name}: {'; '.join(problems[:5]) if problems else f'{len(before)} hits, all the same'}", flush=True)
    return worst


def differences(before, record):
    ran = [stage["name"] for stage in record["stages"] if stage["state"] != "hit"]
    problems = [f"{len(ran)} of {len(record['stages'])} stages ran again, such as {ran[0]}"] if ran else []
    after = results(record)
    if after.keys() != before.keys():
        problems.append(f"other stages: {sorted(after.keys() ^ before.keys())[:3]}")
    for name in before.keys() & after.keys():
        for what, value in before[name].items():
            if after[name][what] != value:
                problems.append(f"other {what} of {name}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keep", "compare"])
    parser.add_argument("runner", help="the program")
    parser.add_argument("folder", type=pathlib.Path, help="holds the store and the noted results")
    parser.add_argument("--only", action="append", metavar="NAME", help="this pipeline; may be repeated")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.folder = options.folder.resolve()
    options.runner = str(pathlib.Path(options.runner).resolve())
    chosen = pipelines(options.folder)
    if options.only:
        chosen = {name: choice for name, choice in chosen.items() if name in options.only}
    return keep(options, chosen) if options.what == "keep" else compare(options, chosen)


if __name__ == "__main__":
    sys.exit(main())
