#!/usr/bin/env python3
"""Breaks the CUDA kernels on purpose, one way at a time, and fails unless the conformance tests notice every one.

    mutants.py TESTS [WORD]

TESTS is the program of numerics' unit tests, built for the software GPU; with WORD, only faults whose description has it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "target" / "software-gpu"
KERNELS = WORK / "mutants"

# File, test, what is wrong, what is looked for, what takes its place.
MUTANTS = [
    ("columns.cu", "linear", "no barrier before the sums of columns", r"sums\[own\]\[lane\] = sum;\n    __syncthreads\(\);", "sums[own][lane] = sum;"),
    ("columns.cu", "linear", "one row too many", r"row < rows; row \+= gridDim", "row <= rows; row += gridDim"),
    ("columns.cu", "feed_forward", "shares of the last group forgotten", r"block < blocks; block\+\+", "block + 1 < blocks; block++"),
    ("philox.cuh", "dropout", "nine rounds", r"round < 10", "round < 9"),
    ("philox.cuh", "dropout", "halves of a word exchanged", r"column & 16 \? word >> 16", "column & 16 ? word >> 15"),
    ("dropout.cu", "dropout", "the last column forgotten", r"column < min\(width,", "column < min(width - 1,"),
    ("noise.cu", "noise", "sine and cosine exchanged", r"make_float2\(__fmul_rn\(radius, found\.y\), __fmul_rn\(radius, found\.x\)\)", "make_float2(__fmul_rn(radius, found.x), __fmul_rn(radius, found.y))"),
    ("gelu.cu", "gelu", "a slope without its second part", r"found\.x \+ x\[at\] \* found\.y", "found.x"),
    ("relu.cu", "relu", "a gradient where nothing passed", r"y\[at\] > 0\.0f", "y[at] >= 0.0f"),
    ("loss.cu", "loss", "no barrier in a sum over a block", r"        __syncthreads\(\);\n        if \(threadIdx", "        if (threadIdx"),
    ("loss.cu", "mean_squared_step", "steps across samples", r"if \(at % size \+ width >= size\) continue;", "if (at + width >= count) continue;"),
    ("layer_norm.cu", "layer_norm", "no barrier before the warps' sums", r"    __syncthreads\(\);\n", ""),
    ("layer_norm.cu", "layer_norm", "lanes that skip a collective", r"float mean = warp_sum\(sum\)", "if (lane >= width) return make_float2(0.0f, 0.0f);\n    float mean = warp_sum(sum)"),
    ("layer_norm.cu", "layer_norm", "one column too many", r"if \(column < width\)\n                y\[", "if (column <= width)\n                y["),
    ("attention.cu", "attention", "no barrier after a head is loaded", r"__syncthreads\(\);\n    for \(int first = warp \* ROWS; first < length; first \+= WARPS \* ROWS\) \{\n        float products\[ROWS\]\[KEYS\];", "for (int first = warp * ROWS; first < length; first += WARPS * ROWS) {\n        float products[ROWS][KEYS];"),
    ("attention.cu", "attention", "no barrier before weights are read across warps", r"    __syncthreads\(\);\n    float \*target", "    float *target"),
    ("attention.cu", "attention", "keys beyond the end of a window", r"weights\[part\] = lane \+ 32 \* part < length \?", "weights[part] = lane + 32 * part <= length ?"),
    ("attention.cu", "attention", "weights that are not dropped in backward", r"reached\[row\]\[part\] \*= factors\[part\];", ""),
    ("feed_forward.cu", "feed_forward", "a bias that is left out in backward", r"float before = x\[at\] \+ bias\[column\], factor", "float before = x[at], factor"),
    ("batch_norm.cu", "batch_norm", "no barrier in a sum over rows", r"sums\[1\]\[own\]\[lane\] = other;\n    __syncthreads\(\);", "sums[1][own][lane] = other;"),
    ("batch_norm.cu", "batch_norm", "a mean that backward forgets", r"slope -= plain \+ normalised \* weighted", "slope -= normalised * weighted"),
    ("pool.cu", "first_of_equals", "the last of equals wins", r"value > largest \|\| isnan", "value >= largest || isnan"),
    ("pool.cu", "max_pool", "a row below the plane", r"down >= sizes\.height", "down > sizes.height"),
    ("group_mean.cu", "group_mean", "no barrier before the sums of a group", r"sums\[own\]\[lane\] = sum;\n    __syncthreads\(\);", "sums[own][lane] = sum;"),
    ("correlation.cu", "convolution", "a border that is not empty", r"patches\[at\] = inside \?", "patches[at] = true ?"),
    ("correlation.cu", "convolution", "strides that are not looked at", r"row % sizes\.stride\[0\] != 0 \|\| ", ""),
    ("correlation.cu", "circular", "a circle that is cut open", r"if \(sizes\.is_circular\) row = [^\n]*\n", "\n"),
    ("gru.cu", "gru", "no barrier after the products", r"(product\[sample\]\[own\] = [^\n]*\n        \}\n)        __syncthreads\(\);\n", r"\1"),
    ("gru.cu", "gru", "no barrier at a step's end, forward", r"(states\[at \* hidden \+ unit\] = next;\n        \}\n)        __syncthreads\(\);\n", r"\1"),
    ("gru.cu", "gru", "no barrier before the products, backward", r"(inner\[local\]\[gate\]\[unit\] = [^\n]*\n        \}\n)        __syncthreads\(\);\n", r"\1"),
    ("gru.cu", "gru", "a barrier that not all threads reach", r"if \(sample >= sizes\.batch\) continue;\n            size_t at = \(size_t\)sample \* sizes\.time \+ time;\n            float next", "if (sample >= sizes.batch) return;\n            size_t at = (size_t)sample * sizes.time + time;\n            float next"),
    ("gru.cu", "gru", "shared memory that nobody cleared", r"\(&shares\[0\]\[0\]\[0\]\)\[index\] = 0\.0f;", ""),
    ("gru.cu", "gru_reset_before", "a gate that sees the next state", r"time \? states\[\(row - 1\) \* hidden \+ unit\] : initial\[index\];\n    const float \*own", "time ? states[row * hidden + unit] : initial[index];\n    const float *own"),
    ("adam.cu", "kernels_agree", "a wrong sign of the penalty", r"\+ step\.penalty \*", "- step.penalty *"),
    ("sgd.cu", "kernels_agree", "momentum that is forgotten", r"slot\.memory\[0\]\[at\] \* step\.momentum \+", ""),
    ("slots.cuh", "kernels_agree", "half of a block's values", r"int\)blockIdx\.x - slot\.first_block\) \* CHUNK \+", "int)blockIdx.x - slot.first_block) * CHUNK * 2 +"),
]


def run(tests: str, test: str) -> tuple[bool, str]:
    """Whether the tests pass with the kernels as they are now, and if not, what noticed."""
    subprocess.run([HERE / "build.sh", "--sanitized", KERNELS], check=True)
    libraries = [subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip() for name in ("libasan.so", "libubsan.so")]
    environment = {
        **os.environ,
        "SOFTWARE_GPU_ORDERS": "1",
        "LD_PRELOAD": " ".join(libraries),
        "LD_LIBRARY_PATH": str(WORK / "changed" / "sanitized" / "lib"),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "RUST_BACKTRACE": "0",
    }
    done = subprocess.run([tests, test, "--test-threads", "1"], env=environment, capture_output=True, text=True)
    if "running 0 tests" in done.stdout:
        sys.exit(f"there is no test `{test}`")
    pattern = r"gpu: .*|ERROR: AddressSanitizer.*|runtime error: .*| is [-\d.e+NaNinf]+ instead of .*|(?m:^assertion.*)"
    noticed = re.search(pattern, done.stdout + done.stderr)
    return done.returncode == 0, noticed[0].strip()[:90] if noticed else "the tests fail"


def main() -> None:
    tests, word = sys.argv[1], " ".join(sys.argv[2:])
    source = ROOT / "stages" / "numerics" / "src"
    shutil.rmtree(KERNELS, ignore_errors=True)
    originals = {}
    for path in [*source.rglob("*.cu"), *source.rglob("*.cuh")]:
        target = KERNELS / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        originals[path.name] = (target, path.read_text())
    unnoticed = 0
    for file, test, what, pattern, replacement in MUTANTS:
        if word not in what:
            continue
        target, text = originals[file]
        changed = re.sub(pattern, replacement, text, count=1)
        if changed == text:
            sys.exit(f"{file}, {what}: the pattern is not there")
        target.write_text(changed)
        passed, noticed = run(tests, test)
        target.write_text(text)
        unnoticed += passed
        print(f"{file}, {what}: {'NOT NOTICED' if passed else noticed}", flush=True)
    if unnoticed:
        sys.exit(f"{unnoticed} faults go unnoticed")


main()
