#!/bin/sh
# Ingest and normalise one machine of SMD, text to Parquet, beside polars and pandas: the same work, in turns, in one
# session. Needs RUNNER_DATA_PATH with ServerMachineDataset; installs the peers into target/peers.
# Usage: benches/peers/ingest.sh [rounds] [repetitions per round]
set -eu
cd "$(dirname "$0")/../.."
rounds=${1:-5}
repetitions=${2:-15}
machine=machine-2-1
folder=
IFS=:
for each in ${RUNNER_DATA_PATH:-}; do
    [ -f "$each/ServerMachineDataset/train/$machine.txt" ] && folder=$each && break
done
unset IFS
[ -n "$folder" ] || { echo "RUNNER_DATA_PATH names no folder with ServerMachineDataset" >&2; exit 1; }

python=target/peers/bin/python
[ -x "$python" ] || python3 -m venv target/peers
"$python" -c 'import polars, pandas, pyarrow' 2>/dev/null \
    || target/peers/bin/pip install --quiet polars pandas pyarrow numpy

bench=$(cargo bench -p data --bench ingest --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
round=0
while [ "$round" -lt "$rounds" ]; do
    RUNNER_BENCH_ONCE=$repetitions "$bench" >>"$results/runner"
    for peer in polars pandas; do
        "$python" benches/peers/ingest.py "$peer" "$folder" "$machine" "$repetitions" >>"$results/$peer"
    done
    round=$((round + 1))
done
"$python" - "$results" <<'PYTHON'
import json
import statistics
import sys

medians = {}
print(f"{'':8} {'median ms':>10} {'fastest':>8} {'ratio':>6} {'peak MB':>8} {'above idle':>10}")
for name in ("runner", "polars", "pandas"):
    runs = [json.loads(line) for line in open(f"{sys.argv[1]}/{name}")]
    # The first repetition of a process warms it up.
    times = [value for run in runs for value in run["milliseconds"][1:]]
    medians[name] = statistics.median(times)
    peak = statistics.median(run["peak_kilobytes"] for run in runs) / 1024
    idle = statistics.median(run["idle_kilobytes"] for run in runs) / 1024
    ratio = medians[name] / medians["runner"]
    print(f"{name:8} {medians[name]:10.1f} {min(times):8.1f} {ratio:6.1f} {peak:8.1f} {peak - idle:10.1f}")
PYTHON
