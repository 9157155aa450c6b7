#!/usr/bin/env bash
# Checks the types of the Python package, and runs its tests with the program of `cargo build --release`. Needs what
# `scripts/install-python-readers.sh` installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version=//p' scripts/install-python-readers.sh)
python=${RUNNER_PYTHON_READERS:-${XDG_CACHE_HOME:-$HOME/.cache}/runner-tests/python-readers-$version}/bin/python
export RUNNER=$PWD/target/release/runner PYTHONPATH=$PWD/python PYTHONDONTWRITEBYTECODE=1
cd "$(mktemp -d)"
"$python" -m mypy --ignore-missing-imports --cache-dir=/dev/null "$PYTHONPATH/runner"
"$python" -m pytest --quiet -p no:cacheprovider "$PYTHONPATH/tests"
