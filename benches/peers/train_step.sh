#!/usr/bin/env bash
# Times a training step of ours and of PyTorch in turns, on the same number of threads, and prints medians and ratios.
# Usage: benches/peers/train_step.sh [THREADS [MODEL...]]; a MODEL is the name of a file in benches/peers/models.
set -euo pipefail
cd "$(dirname "$0")/../.."

threads="${1:-2}"
models=("${@:2}")
if [[ ${#models[@]} -eq 0 ]]; then
    mapfile -t models < <(cd benches/peers/models && ls -- *.py | sed 's/\.py$//')
fi
rounds="${ROUNDS:-3}"
target="${CARGO_TARGET_DIR:-target}"
environment="target/peers"

if ! "$environment/bin/python" -c 'import torch' 2>/dev/null; then
    python3 -m venv "$environment"
    # The CPU build is small but not on every index; the default build brings libraries for GPUs along.
    "$environment/bin/pip" install --quiet 'torch==2.5.1+cpu' numpy 2>/dev/null ||
        "$environment/bin/pip" install --quiet 'torch==2.5.1' numpy
fi

cargo bench --quiet -p learning --bench train_step --no-run
results="$(mktemp -d)"
trap 'rm -rf "$results"' EXIT
printf '%-20s %-17s %9s %9s %6s   %s\n' "milliseconds, $threads threads" "" runner PyTorch ratio "ratio of each round"
for model in "${models[@]}"; do
    rm -f "$results"/*
    for _ in $(seq "$rounds"); do
        "$environment/bin/python" benches/peers/train_step.py "$model" "$threads" 4 >>"$results/peer"
        RAYON_NUM_THREADS="$threads" cargo bench --quiet -p learning --bench train_step -- \
            --warm-up-time 1 --measurement-time 3 --sample-size 10 "^$model/" >/dev/null 2>&1
        for folder in "$target/criterion/$model"/*/new; do
            # criterion's own record of the median, in nanoseconds
            python3 - "$folder/estimates.json" "$(basename "$(dirname "$folder")")" >>"$results/ours" <<'PYTHON'
import json, sys
print(sys.argv[2], json.load(open(sys.argv[1]))["median"]["point_estimate"] / 1e6)
PYTHON
        done
    done
    python3 - "$model" "$results/ours" "$results/peer" <<'PYTHON'
import collections, statistics, sys

def read(path):
    found = collections.defaultdict(list)
    for line in open(path):
        name, value = line.split()
        found[name].append(float(value))
    return found

model, ours, peer = sys.argv[1], read(sys.argv[2]), read(sys.argv[3])
peer["train_step_graph"] = peer["train_step"]
for name in ours:
    one, other = statistics.median(ours[name]), statistics.median(peer[name])
    rounds = " ".join(f"{a / b:.2f}" for a, b in zip(ours[name], peer[name]))
    print(f"{model:20} {name:17} {one:9.2f} {other:9.2f} {one / other:6.2f}   {rounds}")
PYTHON
done
