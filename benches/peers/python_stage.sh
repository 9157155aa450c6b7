#!/usr/bin/env bash
# Times a `python` stage beside the same function called by hand and beside Snakemake's `script:`, as whole processes, in
# turns. Needs RUNNER_DATA_PATH with ServerMachineDataset; installs Snakemake and NumPy into target/peers/engine.
# Usage: benches/peers/python_stage.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/../.."

environment="$PWD/target/peers/engine"
if ! [ -x "$environment/bin/snakemake" ]; then
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check 'snakemake==9.27.1'
fi
"$environment/bin/python" -c 'import numpy' 2>/dev/null ||
    "$environment/bin/pip" install --quiet --disable-pip-version-check numpy
runner="${RUNNER:-}"
if [ -z "$runner" ]; then
    cargo build --quiet --release --workspace --bin runner
    runner="${CARGO_TARGET_DIR:-target}/release/runner"
fi
IFS=: read -ra folders <<<"${RUNNER_DATA_PATH:-}"
for folder in "${folders[@]}"; do
    if [ -f "$folder/ServerMachineDataset/train/machine-1-6.txt" ]; then
        exec "$environment/bin/python" benches/peers/python_stage.py "$runner" "$environment/bin/python" \
            "$environment/bin/snakemake" "$folder" "${1:-5}"
    fi
done
echo "RUNNER_DATA_PATH names no folder with ServerMachineDataset" >&2
exit 1
