#!/bin/sh
# Our pictures and those of matplotlib, in the same session.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q matplotlib
(cd "$root" && cargo bench -p drawing --bench plots)
"$work/venv/bin/python" "$root/benches/peers/plots.py"
