#!/usr/bin/env bash
# Installs Chromium and its driver from Debian's packages, for the tests of the pages, unless they are there.
set -euo pipefail

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    echo "Chromium is there: $(chromedriver --version | cut -d' ' -f1-2)"
    exit
fi
command -v apt-get >/dev/null || {
    echo "Chromium and its driver are missing; the tests look for \`chromium\` and \`chromedriver\` on the path" >&2
    exit 1
}
as_root=()
if [[ $(id -u) != 0 ]]; then
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null
echo "Chromium is there: $(chromedriver --version | cut -d' ' -f1-2)"
