#!/bin/sh
# Our metrics and those of TSB-AD and scikit-learn, on the same 700,000 rows, in the same session.
# TSB-AD's VUS takes some minutes on them; --without-volume leaves it out.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q numpy scikit-learn
"$work/venv/bin/pip" install -q --no-deps TSB-AD==1.5
(cd "$root" && RUNNER_BENCH_DUMP="$work" cargo bench -p judging --bench metrics)
"$work/venv/bin/python" "$root/benches/peers/metrics.py" "$work" "$@"
