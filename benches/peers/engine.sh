#!/usr/bin/env bash
# Times the engine as whole processes: 200 stages of `cp` beside DVC and Snakemake, a pipeline of 10,000 stages, and
# the no-op of the main job where RUNNER_DATA_PATH has its data. Installs the peers into target/peers/engine.
# Usage: benches/peers/engine.sh [ROUNDS [FIRST_ROUNDS]]
#   ROUNDS        no-ops of each peer (default 3; runner gets more, being faster)
#   FIRST_ROUNDS  first runs of each peer (default 3; one of DVC takes minutes)
# RUNNER_BENCH_SCRATCH names the folder whose disk is used (default: the system's temporary folder).
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds="${1:-3}"
first_rounds="${2:-3}"
target="${CARGO_TARGET_DIR:-target}"
environment="target/peers/engine"

if ! [ -x "$environment/bin/dvc" ] || ! [ -x "$environment/bin/snakemake" ]; then
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check 'dvc==3.67.1' 'snakemake==9.27.1'
fi
runner="${RUNNER:-}"
if [ -z "$runner" ]; then
    cargo build --quiet --release --workspace --bin runner
    runner="$target/release/runner"
fi

measure() {
    "$environment/bin/python" benches/peers/engine.py "$@" --runner "$runner" --peers "$environment" \
        --rounds "$rounds" --first-rounds "$first_rounds"
}

measure compare
measure wide
IFS=: read -ra folders <<<"${RUNNER_DATA_PATH:-}"
for folder in "${folders[@]}"; do
    if [ -f "$folder/ServerMachineDataset/train/machine-2-1.txt" ]; then
        measure main
        exit
    fi
done
echo
echo "SKIPPED the main job: RUNNER_DATA_PATH names no folder with ServerMachineDataset"
