#!/bin/sh
# Fetches nvcc as wheels from the Python package index, to target/cuda/toolkit, unless it is there; needs python3 with pip.
# Prints the folder that CUDA_HOME has to name.
set -eu
cd "$(dirname "$0")/.."
work="$PWD/target/cuda"
toolkit="$work/toolkit/nvidia/cu13"
# Newer releases of nvcc write PTX that drivers of the 580 series refuse.
packages="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvrtc==13.0.88"

if ! [ -e "$work/toolkit/complete" ]; then
    rm -rf "$work/toolkit"
    mkdir -p "$work/wheels" "$work/toolkit"
    # shellcheck disable=SC2086 # one word per package
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work/wheels" $packages >&2
    for wheel in "$work"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$work/toolkit"
    done
    ln -s lib "$toolkit/lib64"
    chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
    touch "$work/toolkit/complete"
fi
echo "$toolkit"
