#!/usr/bin/env bash
# Times a training step of ours and of PyTorch in turns, on the same number of threads, and prints medians and ratios.
# Usage: benches/peers/train_step.sh [THREADS]
set -euo pipefail
cd "$(dirname "$0")/../.."

threads="${1:-2}"
rounds=5
target="${CARGO_TARGET_DIR:-target}"
environment="target/peers"

if ! "$environment/bin/python" -c 'import torch' 2>/dev/null; then
    python3 -m venv "$environment"
    # The CPU build is small but not on every index; the default build brings libraries for GPUs along.
    "$environment/bin/pip" install --quiet 'torch==2.5.1+cpu' numpy 2>/dev/null ||
        "$environment/bin/pip" install --quiet 'torch==2.5.1' numpy
fi

cargo bench --quiet -p stages --bench train_step --no-run
results="$(mktemp -d)"
trap 'rm -rf "$results"' EXIT
for _ in $(seq "$rounds"); do
    "$environment/bin/python" benches/peers/train_step.py "$threads" 40 >>"$results/peer"
    RAYON_NUM_THREADS="$threads" cargo bench --quiet -p stages --bench train_step -- \
        --warm-up-time 1 --measurement-time 2 --sample-size 40 >/dev/null 2>&1
    for name in train_step train_step_graph evaluate; do
        # criterion's own record of the median, in nanoseconds
        python3 - "$target/criterion/tvnet-recon/$name/new/estimates.json" "$name" >>"$results/ours" <<'PYTHON'
import json, sys
print(sys.argv[2], json.load(open(sys.argv[1]))["median"]["point_estimate"] / 1e6)
PYTHON
    done
done
python3 - "$results/ours" "$results/peer" "$threads" <<'PYTHON'
import collections, statistics, sys

def read(path):
    found = collections.defaultdict(list)
    for line in open(path):
        name, value = line.split()
        found[name].append(float(value))
    return found

ours, peer = read(sys.argv[1]), read(sys.argv[2])
peer["train_step_graph"] = peer["train_step"]
print(f"TVNet reconstructor, 38 channels, window 100, batch 128, {sys.argv[3]} threads; milliseconds, medians over rounds")
print(f"{'':17} {'runner':>8} {'PyTorch':>8} {'ratio':>6}   ratio of each round")
for name in ours:
    one, other = statistics.median(ours[name]), statistics.median(peer[name])
    rounds = " ".join(f"{a / b:.2f}" for a, b in zip(ours[name], peer[name]))
    print(f"{name:17} {one:8.2f} {other:8.2f} {one / other:6.2f}   {rounds}")
PYTHON
