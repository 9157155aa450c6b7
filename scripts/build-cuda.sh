#!/bin/sh
# Builds runner with CUDA on a machine that needs neither a GPU nor a CUDA installation.
#
# The compiler (nvcc) comes as wheels from the Python package index. The CUDA libraries themselves are not needed to
# build: the program is linked against stub libraries that carry the right sonames and exactly the symbols it asks for,
# and finds the real ones on the machine where it runs. Everything made here lies below target/cuda.
#
#   scripts/build-cuda.sh                      for compute capability 9.0 (H100, H200)
#   CUDA_COMPUTE_CAP=80 scripts/build-cuda.sh  for another GPU
#   JOBS=8 scripts/build-cuda.sh               more compilers at a time (default 2)
set -eu

cd "$(dirname "$0")/.."
work="$PWD/target/cuda"
stubs="$work/stubs"
jobs="${JOBS:-2}"

fail() {
    echo "build-cuda: $1" >&2
    echo "  hint: $2" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null || fail "$1 is not installed" "$2"
}

# One line per library: its name for the linker, its soname, the pattern of its symbols. The first that fits counts.
libraries() {
    cat <<'LIST'
cublasLt libcublasLt.so.13 ^cublasLt
cublas libcublas.so.13 ^cublas
curand libcurand.so.10 ^curand
nvrtc libnvrtc.so.13 ^nvrtc
cudart libcudart.so.13 ^(cuda[A-Z]|__cuda)
cuda libcuda.so.1 ^cu[A-Z]
LIST
}

# Makes every stub library; $1 is a file of symbol names, one a line, which may be empty.
make_stubs() {
    rm -rf "$stubs"
    mkdir -p "$stubs"
    cp "$1" "$stubs/unclaimed"
    libraries | while read -r name soname pattern; do
        grep -E "$pattern" "$stubs/unclaimed" >"$stubs/$name.symbols" || true
        grep -vE "$pattern" "$stubs/unclaimed" >"$stubs/rest" || true
        mv "$stubs/rest" "$stubs/unclaimed"
        sed 's/.*/void &(void) {}/' "$stubs/$name.symbols" >"$stubs/$name.c"
        "${CC:-cc}" -shared -fPIC -fno-builtin -w -Wl,-soname,"$soname" -o "$stubs/lib$name.so" "$stubs/$name.c"
    done
}

# Links the program with the extra linker arguments given; what does not change is not compiled again.
link() {
    cargo rustc --release --locked --jobs "$jobs" --features cuda --bin runner -- -L "native=$stubs" "$@"
}

need cargo "install Rust from https://rustup.rs"
need python3 "the wheels that hold nvcc are fetched with pip"
need nm "install binutils"
need "${CXX:-g++}" "nvcc needs a C++ compiler for the host: install g++"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is not installed" "install python3-pip"

CUDA_HOME=$(scripts/install-nvcc.sh)
export CUDA_HOME PATH="$CUDA_HOME/bin:$PATH"
export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-90}" CUDAFORGE_THREADS="$jobs"
export CARGO_TARGET_DIR="$work/build"
program="$CARGO_TARGET_DIR/release/runner"

# The first link finds out which symbols are asked for: linkers drop a library that nothing needs, so empty stubs do
# not do for the second.
: >"$work/no-symbols"
make_stubs "$work/no-symbols"
link -C link-arg=-Wl,--unresolved-symbols=ignore-all -C strip=none
nm -u "$program" | awk '{ print $2 }' | grep -E '^(cu[A-Z]|cublas|curand|nvrtc|cuda[A-Z]|__cuda)' | sort -u >"$work/symbols"
[ -s "$work/symbols" ] || fail "the program asks for no CUDA symbol" "was candle-core built with its feature cuda?"
make_stubs "$work/symbols"

# The second link refuses any symbol that no stub has.
link
cp "$program" "$work/runner"
strip "$work/runner"

echo
echo "built $work/runner for compute capability $CUDA_COMPUTE_CAP ($(wc -c <"$work/runner") bytes)"
echo "libraries it asks for at start:"
readelf -d "$work/runner" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/  \1/p'
echo
echo "Copy it to a machine with an NVIDIA driver of the 580 series or newer and CUDA 13, and run it there:"
echo "  LD_LIBRARY_PATH=/usr/local/cuda/lib64 ./runner doctor"
echo "The folders of the nvidia packages of Python serve as well (site-packages/nvidia/cu13/lib)."
