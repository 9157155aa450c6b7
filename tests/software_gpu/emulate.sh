#!/usr/bin/env bash
# Compiles a file of CUDA kernels for the CPU: emulate.sh KERNELS.cu TARGET.o [FLAG...]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$1 target=$2
shift 2
# No macro can stand for `extern __shared__ T name[];`, because the name follows the type.
sed -E 's/extern +__shared__ +([A-Za-z0-9_ ]+[^A-Za-z0-9_])([A-Za-z0-9_]+)\[\] *;/DYNAMIC_SHARED(\1, \2);/' "$source" >"$target.cu"
g++ -E -P -x c++ -std=c++17 "$@" -I"$(dirname "$source")" -I"$here/headers" -include "$here/cuda_on_cpu.h" "$target.cu" |
    python3 "$here/enroll.py" >"$target.cpp"
g++ -c -std=c++17 -O2 -g1 -fPIC -ffp-contract=off -w "$@" -o "$target" "$target.cpp"
