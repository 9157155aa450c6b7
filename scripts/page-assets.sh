#!/usr/bin/env bash
# Makes the chart library of the pages from the npm registry, by the lock file, and checks the types of the pages' own
# script. With --check it changes nothing, and fails if what is in the repository is not what it would make.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/page"

if ! command -v npm >/dev/null; then
    echo "npm is missing: the pages' script is not checked"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json package-lock.json "$work"
(cd "$work" && npm ci --silent --no-audit --no-fund --ignore-scripts)
assets=../../src/page/assets
made=$work/node_modules/uplot/dist
for pair in uPlot.iife.min.js:uplot.js uPlot.min.css:uplot.css; do
    if [[ ${1:-} == --check ]]; then
        cmp "$made/${pair%:*}" "$assets/${pair#*:}"
    else
        cp "$made/${pair%:*}" "$assets/${pair#*:}"
    fi
done
node "$work/node_modules/typescript/bin/tsc" -p tsconfig.json
echo "the pages' script is sound, and the chart library is that of the lock file"
