#!/usr/bin/env python3
"""What nvcc makes of the CUDA kernels for H100 and H200: registers of a thread, what does not fit into them, and shared
memory of a block. `--check` fails where benches/cuda-kernels.md says otherwise, `--write` writes it anew. Needs CUDA_HOME
or nvcc on the path; scripts/install-nvcc.sh fetches one.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benches" / "cuda-kernels.md"
HEAD = """\
# CUDA kernels as they are compiled

What nvcc 13.0 makes of every kernel for compute capability 9.0. A thread can have 255 registers, a multiprocessor has 65,536;
what does not fit is *spilled* to memory. CI fails when a figure changes, so nothing spills unseen.
`scripts/kernel-table.py --write` writes the table anew.

| file | kernel | registers | spilled (bytes) | shared memory (bytes) |
|---|---|---|---|---|
"""
KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for 'sm_90'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


def kernels_of(source: Path) -> list[str]:
    """The rows of a file's kernels, in the order of their names."""
    nvcc = Path(os.environ["CUDA_HOME"], "bin", "nvcc") if "CUDA_HOME" in os.environ else "nvcc"
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++17", "-O3", "-cubin", "-gencode=arch=compute_90,code=sm_90", "-Xptxas", "-v"]
        try:
            done = subprocess.run([*command, "-o", f"{folder}/cubin", source], capture_output=True, text=True)
        except OSError as error:
            sys.exit(f"{error}; CUDA_HOME=$(scripts/install-nvcc.sh) fetches nvcc")
    if done.returncode != 0:
        sys.exit(f"nvcc cannot compile {source.relative_to(ROOT)}:\n{done.stderr}")
    if "warning" in done.stderr:
        sys.exit(f"nvcc warns of {source.relative_to(ROOT)}:\n{done.stderr}")
    rows = []
    for found in KERNEL.finditer(done.stderr):
        shared = re.search(r"(\d+) bytes smem", found["rest"])
        spilled = max(int(found["stores"]), int(found["loads"]))
        cells = [source.name, found["name"], found["registers"], str(spilled), shared[1] if shared else "0"]
        rows.append(f"| {' | '.join(cells)} |\n")
    return sorted(rows)


def main() -> None:
    if sys.argv[1:] not in (["--check"], ["--write"]):
        sys.exit(__doc__)
    sources = sorted((ROOT / "stages").rglob("*.cu"))
    with ThreadPoolExecutor(2) as pool:
        rows = [row for rows in pool.map(kernels_of, sources) for row in rows]
    table = HEAD + "".join(rows)
    if sys.argv[1] == "--write":
        TABLE.write_text(table)
        return
    written = TABLE.read_text() if TABLE.exists() else ""
    if table != written:
        changed = set(table.splitlines()) ^ set(written.splitlines())
        lines = "\n".join(sorted(changed))
        sys.exit(f"{TABLE.relative_to(ROOT)} says otherwise; `{sys.argv[0]} --write` writes it anew:\n{lines}")
    print(f"{len(rows)} kernels are compiled as the table says")


main()
