#!/usr/bin/env bash
# Installs the wheel that `scripts/build-release.sh` left in target/dist into a fresh virtual environment, and runs the
# quickstart with it from an empty folder, as somebody without a compiler would.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wheel=$(ls "$PWD"/target/dist/*.whl)
size=$(wc -c <"$wheel")
if ((size > 30000000)); then
    echo "try-wheel: the wheel has $size bytes; the limit is 30 MB" >&2
    exit 1
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel"
cd "$place"
PATH="$place/venv/bin:$PATH"
for share in share/man/man1/runner-run.1 share/bash-completion/completions/runner share/zsh/site-functions/_runner; do
    [[ -s "$place/venv/$share" ]] || {
        echo "try-wheel: the wheel installs no $share" >&2
        exit 1
    }
done
[[ $(command -v runner) == "$place/venv/bin/runner" ]]
python -c 'import runner; print("import runner:", runner.__version__)'
runner run --quiet
runner show --json | python -c 'import json, sys; run = json.load(sys.stdin); print("quickstart:", run["run"], run["status"])'
runner cache verify
