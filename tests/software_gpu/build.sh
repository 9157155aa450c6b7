#!/usr/bin/env bash
# Builds the software GPU below target/software-gpu: a CUDA driver that runs kernels on the CPU, and a copy of
# `candle-kernels` that needs no nvcc. Needs g++ and python3. scripts/test-software-gpu.sh tells cargo of both.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
work=$PWD/target/software-gpu

# Where cargo keeps the sources of candle-kernels.
manifest=$(cargo metadata --format-version 1 --locked --features cuda | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
print(next(package["manifest_path"] for package in packages if package["name"] == "candle-kernels"))')
kernels=$(dirname "$manifest")

# Nothing to do if nothing has changed. What failed half way leaves no stamp.
mapfile -t inputs < <(find "$here" -type f | sort; find stages -name "*.cu" -o -name "*.cuh" | sort)
stamp=$(cat "${inputs[@]}" "$manifest" | sha256sum)
if [[ -f $work/stamp && $(<"$work/stamp") == "$stamp" ]]; then
    exit
fi
rm -rf "$work"
mkdir -p "$work/lib" "$work/objects" "$work/candle-kernels"
cp "$manifest" "$work/candle-kernels/"
cp -r "$kernels/src" "$work/candle-kernels/"
cp "$here/candle_kernels.rs" "$work/candle-kernels/build.rs"

# Candle's kernels as for the oldest devices: without 16-bit types, whose intrinsics are not emulated.
candle=(affine binary cast conv fill indexing reduce sort ternary unary)
for name in "${candle[@]}"; do
    "$here/emulate.sh" "$kernels/src/$name.cu" "$work/objects/candle_$name.o" \
        -D__CUDA_ARCH__=520 -D__CUDACC_VER_MAJOR__=13 -D__CUDACC_VER_MINOR__=0
done
for source in stages/kernels/*.cu; do
    [[ -e $source ]] || continue
    "$here/emulate.sh" "$source" "$work/objects/$(basename "${source%.cu}").o"
done
g++ -std=c++17 -O2 -g1 -fPIC -Wall -Wextra -c -o "$work/objects/driver.o" "$here/driver.cpp"
g++ -shared -Wl,-soname,libcuda.so.1 -o "$work/lib/libcuda.so.1" "$work"/objects/*.o
ln -s libcuda.so.1 "$work/lib/libcuda.so"
# The linker asks for these by name; what they would hold is in the driver.
for name in cublas cublasLt cudart curand nvrtc; do
    g++ -shared -o "$work/lib/lib$name.so" -x c++ /dev/null
done
printf '%s' "$stamp" >"$work/stamp"
