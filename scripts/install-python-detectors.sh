#!/usr/bin/env bash
# Installs NumPy, scikit-learn and PyOD, whose detectors the tests of `python` stages run, and uv, from the Python index, unless
# they are there: into a virtual environment outside the tree, which CI may keep between runs. RUNNER_PYTHON_DETECTORS names another.
set -euo pipefail

version=2
place=${RUNNER_PYTHON_DETECTORS:-${XDG_CACHE_HOME:-$HOME/.cache}/runner-tests/python-detectors-$version}
if "$place/bin/python" -c "import numpy, pyarrow, sklearn, pyod.models.ecod, pyod.models.hbos" 2>/dev/null; then
    echo "Python detectors are there: $place"
    exit
fi
command -v python3 >/dev/null || {
    echo "the detectors need Python 3.11 or later" >&2
    exit 1
}
rm -rf "$place"
mkdir -p "$(dirname "$place")"
python3 -m venv "$place"
"$place/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "scikit-learn==1.9.1" "pyod==3.6.7" "pyarrow==26.0.1" "uv==0.13.9"
echo "Python detectors are there: $place"
