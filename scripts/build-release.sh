#!/usr/bin/env bash
# Builds what a release consists of, into target/dist: the wheel (program, Python package, manual pages, completions), the
# archive of the program, and their sums.
#
#   scripts/build-release.sh          for any Linux of this processor with glibc 2.17 (2012) or newer; zig is the linker
#   scripts/build-release.sh --here   with the linker and the C library of this machine: what `cargo build --release` built
#                                     is packed as it is, in seconds
#
# Needs cargo and Python 3.10 or newer. Zig and maturin come from the Python index.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

maturin_version=1.16.0
zig_version=0.17.1
glibc=2.17
tools=${XDG_CACHE_HOME:-$HOME/.cache}/runner-tests/maturin-$maturin_version-zig-$zig_version
dist=$PWD/target/dist

fail() {
    printf 'build-release: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 1
}

here=false
case "${1-}" in
    "") ;;
    --here) here=true ;;
    *) fail "$1 is not an option" "the only one is --here" ;;
esac
command -v cargo >/dev/null || fail "cargo is not installed" "install Rust from https://rustup.rs"
command -v python3 >/dev/null || fail "python3 is not installed" "the wheel is built with a Python package"

if [[ ! -e "$tools/complete" ]]; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check "maturin==$maturin_version" "ziglang==$zig_version"
    touch "$tools/complete"
fi

# Packs the wheel into target/dist; cargo builds only what is not built yet.
pack_wheel() {
    rm -f "$dist"/*.whl
    local how=(--zig --strip --compatibility manylinux2014)
    if $here; then
        how=(--compatibility linux)
    elif [[ $(uname -s) == Darwin ]]; then
        how=(--strip)
    fi
    (cd python && PATH="$tools/bin:$PATH" maturin build --quiet --release --locked --out "$dist" \
        --target-dir "$dist/../$($here && echo . || echo "glibc-$glibc")" "${how[@]}")
}

# The manual pages and completions of the program that $1 names, below $2.
write_share() {
    mkdir -p "$2/man/man1" "$2/bash-completion/completions" "$2/zsh/site-functions" "$2/fish/vendor_completions.d"
    "$1" man "$2/man/man1" >/dev/null
    "$1" completions bash >"$2/bash-completion/completions/runner"
    "$1" completions zsh >"$2/zsh/site-functions/_runner"
    "$1" completions fish >"$2/fish/vendor_completions.d/runner.fish"
}

rm -rf "$dist"
mkdir -p "$dist/wheel/data/share"
pack_wheel
# The program writes its own pages, so it is unpacked from a first wheel, and packed with them into the second.
python3 -m zipfile -e "$dist"/*.whl "$dist/unpacked"
program=$(find "$dist/unpacked" -path '*.data/scripts/runner')
chmod +x "$program"
write_share "$program" "$dist/wheel/data/share"
pack_wheel

version=$("$program" --version | awk '{ print $2 }')
name=runner-$version-$(uname -m)-$(uname -s | tr '[:upper:]' '[:lower:]')
mkdir -p "$dist/$name/bin"
cp "$program" "$dist/$name/bin/runner"
cp -R "$dist/wheel/data/share" "$dist/$name/share"
cp -R pipelines README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$dist/$name/"
tar -C "$dist" -czf "$dist/$name.tar.gz" "$name"
rm -rf "$dist/unpacked" "$dist/wheel" "${dist:?}/$name"
(cd "$dist" && (sha256sum ./* 2>/dev/null || shasum -a 256 ./*) | sed 's, \./, ,' >SHA256SUMS)

printf '\nbelow target/dist:\n'
(cd "$dist" && wc -c ./*.whl ./*.tar.gz | sed '$d')
