#!/usr/bin/env bash
# Installs the Python libraries with which the test of docs/artifacts.md reads and writes artifacts, and the package in python/ is
# tested, from the Python index, unless they are there: into a virtual environment outside the tree, which CI may keep between runs. RUNNER_PYTHON_READERS names
# another place for it. PyTorch, which is large, is used where it is installed there, and not otherwise.
set -euo pipefail

version=2
packages=("numpy==2.4.6" "pandas==3.1.1" "polars==2.1.0" "pyarrow==26.0.1" "safetensors==0.8.0" "pytest==9.2.0" "mypy==2.4.1" "pandas-stubs==3.1.0.261029")
place=${RUNNER_PYTHON_READERS:-${XDG_CACHE_HOME:-$HOME/.cache}/runner-tests/python-readers-$version}
if [[ -x "$place/bin/python" ]] && "$place/bin/python" -c "import numpy, pandas, polars, pyarrow, safetensors, pytest, mypy" 2>/dev/null; then
    echo "the Python readers are there: $place"
    exit
fi
command -v python3 >/dev/null || {
    echo "the Python readers need Python 3.11 or later" >&2
    exit 1
}
rm -rf "$place"
mkdir -p "$(dirname "$place")"
python3 -m venv "$place"
"$place/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
echo "the Python readers are there: $place"
