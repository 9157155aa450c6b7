#!/usr/bin/env bash
# Installs NumPy, scikit-learn and PyOD, whose detectors the tests of `python` stages run, from the Python index, unless they are
# there: into a virtual environment outside the tree, which CI may keep between runs. RUNNER_PYTHON_DETECTORS names another.
set -euo pipefail

version=1
place=${RUNNER_PYTHON_DETECTORS:-${XDG_CACHE_HOME:-$HOME/.cache}/runner-tests/python-detectors-$version}
if "$place/bin/python" -c "import numpy, pyarrow, sklearn, pyod.models.ecod, pyod.models.hbos" 2>/dev/null; then
    echo "Python detectors are there: $place"
    exit
fi
command -v python3 >/dev/null || {
    echo "the detectors need Python 3.10 or later" >&2
    exit 1
}
rm -rf "$place"
mkdir -p "$(dirname "$place")"
python3 -m venv "$place"
"$place/bin/pip" install --quiet --disable-pip-version-check "numpy>=1.26" "scikit-learn>=1.4" "pyod>=2" pyarrow
echo "Python detectors are there: $place"
