#!/usr/bin/env bash
# Formats all Rust files; with --check, only says which are not. `cargo fmt` alone leaves out the modules that a table declares
# (`contract::entries!` and the like), since it does not look into macros.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files -z --cached --others --exclude-standard --deduplicate '*.rs' |
    while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done |
    xargs -0 rustfmt --edition 2024 "$@"
