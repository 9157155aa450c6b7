#!/usr/bin/env bash
# Tests the CUDA path without a GPU: every operation, every golden case and what each model asks of the device, on the
# driver of tests/software_gpu. Needs g++ and python3, and no CUDA. Further arguments go to the tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v "g++" >/dev/null; then
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
export CUDARC_CUDA_VERSION=13000 LD_LIBRARY_PATH=$gpu/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
cargo --config "paths=['$gpu/candle-kernels']" test --release --locked -p numerics -p learning \
    --features learning/software-gpu --lib --test golden --test budget -- "$@"
