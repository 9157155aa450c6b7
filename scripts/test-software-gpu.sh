#!/usr/bin/env bash
# Tests the CUDA path without a GPU, on the driver of tests/software_gpu: every operation and optimiser, every golden case, and
# what each model asks of the device; then every operation again with each kernel in five orders of blocks and threads, and
# sanitizers. Needs g++ and python3, and no CUDA.
#
#   scripts/test-software-gpu.sh            all that
#   scripts/test-software-gpu.sh --mutants  breaks the kernels on purpose, and fails unless each fault is noticed: minutes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v g++ >/dev/null; then
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || {
        echo "g++ is not installed, and only root can install it by apt-get" >&2
        exit 1
    }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends g++ >/dev/null
fi
tests/software_gpu/build.sh
gpu=$PWD/target/software-gpu
# cudarc asks for the version of CUDA whose calls it makes, and Candle's kernels come from the copy that needs no nvcc.
export CUDARC_CUDA_VERSION=13000
options=(--config "paths=['$gpu/candle-kernels']" --release --locked --features learning/software-gpu)

if [[ ${1:-} == --mutants ]]; then
    program=$(cargo test "${options[@]}" -p numerics -p learning --lib --no-run --message-format json | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "numerics":
        print(message["executable"])')
    exec tests/software_gpu/mutants.py "$program"
fi

export LD_LIBRARY_PATH=$gpu/lib
cargo clippy "${options[@]}" -p numerics -p learning --all-targets -- -D warnings
cargo test "${options[@]}" -p numerics -p learning --lib --test golden --test budget

tests/software_gpu/build.sh --sanitized
preload=$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so)
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${host}_RUNNER=env SOFTWARE_GPU_ORDERS=1 LD_PRELOAD=$preload LD_LIBRARY_PATH=$gpu/sanitized/lib \
    ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0"
for filter in conformance kernels_agree first_of_equals; do
    cargo test "${options[@]}" -p numerics -p learning --lib -- "$filter" --test-threads 1
done
