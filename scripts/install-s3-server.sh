#!/usr/bin/env bash
# Installs the S3 server that the tests of the remote cache talk to, below target/tools, unless it is there already.
# It takes some minutes of a processor once; CI keeps target/ between runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.14.1
root="${CARGO_TARGET_DIR:-target}/tools"
if [[ -x "$root/bin/s3s-fs" ]] && "$root/bin/s3s-fs" --version | grep -qF "$version"; then
    echo "s3s-fs $version is there: $root/bin/s3s-fs"
    exit
fi
cargo install --quiet --locked --features binary "s3s-fs@$version" --root "$root" --target-dir "$root/build"
rm -rf "$root/build"
