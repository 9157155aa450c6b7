#!/usr/bin/env bash
# Builds the software GPU below target/software-gpu: a CUDA driver that runs kernels on the CPU, and a copy of
# `candle-kernels` that needs no nvcc. Needs g++ and python3. scripts/test-software-gpu.sh tells cargo of both.
#
#   tests/software_gpu/build.sh [--sanitized] [KERNELS]
#
# `--sanitized` builds a driver that stops at accesses out of bounds and at undefined behaviour, below `sanitized`. KERNELS is
# the folder whose `.cu` files are taken instead of those in `stages`; the driver then lies below `changed`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
work=$PWD/target/software-gpu
own=. flags=()
if [[ ${1:-} == --sanitized ]]; then
    shift
    own=sanitized
    flags=(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -ftrivial-auto-var-init=pattern)
fi
stages=${1:-stages}
[[ $stages == stages ]] || own=changed/$own

# Where cargo keeps the sources of candle-kernels.
manifest=$(cargo metadata --format-version 1 --locked --features cuda | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
print(next(package["manifest_path"] for package in packages if package["name"] == "candle-kernels"))')
kernels=$(dirname "$manifest")

mkdir -p "$work/$own/lib" "$work/$own/objects" "$work/${own#changed/}/objects"

# Whether something has to be made of these files: unchanged NAME FILE...; `made NAME` notes that it was.
declare -A sums
unchanged() {
    sums[$1]=$(cat "${@:2}" | sha256sum)
    [[ -f $work/$1.sum && $(<"$work/$1.sum") == "${sums[$1]}" ]]
}
made() {
    printf '%s' "${sums[$1]}" >"$work/$1.sum"
}

if ! unchanged candle-kernels "$manifest" "$here/candle_kernels.rs"; then
    rm -rf "$work/candle-kernels"
    mkdir "$work/candle-kernels"
    cp "$manifest" "$work/candle-kernels/"
    cp -r "$kernels/src" "$work/candle-kernels/"
    cp "$here/candle_kernels.rs" "$work/candle-kernels/build.rs"
    made candle-kernels
fi

objects=()
# emulated NAME SOURCE HEADERS-FOLDER [FLAG...]
emulated() {
    local name=$1 source=$2 headers=$3
    objects+=("$work/$name.o")
    mapfile -t inputs < <(find "$headers" "$here" -name '*.cuh' -o -path "$here/*" -type f | sort)
    unchanged "$name" "$source" "${inputs[@]}" && return
    "$here/emulate.sh" "$source" "$work/$name.o" "${flags[@]}" "${@:4}"
    made "$name"
}

# Candle's kernels as for the oldest devices: without 16-bit types, whose intrinsics are not emulated.
for name in affine binary cast conv fill indexing reduce sort ternary unary; do
    emulated "${own#changed/}/objects/candle_$name" "$kernels/src/$name.cu" "$kernels/src" \
        -D__CUDA_ARCH__=520 -D__CUDACC_VER_MAJOR__=13 -D__CUDACC_VER_MINOR__=0
done
while read -r source; do
    emulated "$own/objects/$(basename "${source%.cu}")" "$source" "$stages"
done < <(find "$stages" -name '*.cu' | sort)
if ! unchanged "$own/objects/driver" "$here/driver.cpp" "$here/cuda_on_cpu.h"; then
    g++ -std=c++17 -O2 -g1 -fPIC -Wall -Wextra "${flags[@]}" -c -o "$work/$own/objects/driver.o" "$here/driver.cpp"
    made "$own/objects/driver"
fi
objects+=("$work/$own/objects/driver.o")

unchanged "$own/libraries" "${objects[@]}" && exit
g++ -shared "${flags[@]}" -Wl,-soname,libcuda.so.1 -o "$work/$own/lib/libcuda.so.1" "${objects[@]}"
ln -sf libcuda.so.1 "$work/$own/lib/libcuda.so"
# The linker asks for these by name; what they would hold is in the driver.
for name in cublas cublasLt cudart curand nvrtc; do
    g++ -shared -o "$work/$own/lib/lib$name.so" -x c++ /dev/null
done
made "$own/libraries"
