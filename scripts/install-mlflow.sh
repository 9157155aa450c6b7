#!/usr/bin/env bash
# Installs the tracking server of MLflow that the test of exports starts and stops, from the Python index, unless it is there:
# into a virtual environment outside the tree, which CI may keep between runs. RUNNER_MLFLOW names another place for it.
# The small package of MLflow and what its server needs to serve runs and artifacts; no notebooks, no models.
set -euo pipefail

version=3.17.2
place=${RUNNER_MLFLOW:-${XDG_CACHE_HOME:-$HOME/.cache}/runner-tests/mlflow-$version}
if [[ -x "$place/bin/mlflow" ]] && "$place/bin/python" -c "import flask, flask_cors, gunicorn, sqlalchemy, alembic, mlflow; assert mlflow.__version__ == '$version'" 2>/dev/null; then
    echo "MLflow $version is there: $place"
    exit
fi
command -v python3 >/dev/null || {
    echo "MLflow needs Python 3.10 or later" >&2
    exit 1
}
rm -rf "$place"
mkdir -p "$(dirname "$place")"
python3 -m venv "$place"
"$place/bin/pip" install --quiet --disable-pip-version-check \
    "mlflow-skinny==$version" "Flask<4" Flask-Cors "sqlalchemy>=2,<3" "alembic<2" gunicorn
echo "MLflow $version is there: $place"
