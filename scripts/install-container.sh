#!/usr/bin/env bash
# Installs podman and runc, which the test of containers starts, unless they are there, and makes the image for it: the Python
# of `scripts/install-python-detectors.sh` with NumPy and the libraries that these are linked with, and nothing else. Prints
# the image's name with its digest.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! { command -v podman && command -v runc; } >/dev/null; then
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || {
        echo "podman is not installed, and only root can install it by apt-get: podman runc" >&2
        exit 1
    }
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends podman runc >/dev/null
fi
name=localhost/runner-tests:1
if ! podman image exists "$name"; then
    version=$(sed -n 's/^version=//p' scripts/install-python-detectors.sh)
    venv=${RUNNER_PYTHON_DETECTORS:-${XDG_CACHE_HOME:-$HOME/.cache}/runner-tests/python-detectors-$version}
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    "$venv/bin/python" - "$root" <<'PYTHON'
import glob
import os
import re
import shutil
import subprocess
import sys
import sysconfig

root = sys.argv[1]
library = sysconfig.get_path("stdlib")
packages = sysconfig.get_path("purelib")
interpreter = os.path.realpath(sys.executable)


def copy(path):
    target = root + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target):
        shutil.copy(os.path.realpath(path), target)


left_out = shutil.ignore_patterns("test", "idlelib", "site-packages", "dist-packages", "__pycache__", "*.a")
shutil.copytree(library, root + library, ignore=left_out, symlinks=True)
copy(interpreter)
for path in glob.glob(packages + "/numpy*"):
    target = f"{root}{library}/site-packages/{os.path.basename(path)}"
    shutil.copytree(path, target, ignore=shutil.ignore_patterns("tests", "__pycache__"))
binaries = [interpreter]
for folder, _, names in os.walk(root):
    binaries += [os.path.join(folder, name) for name in names if ".so" in name]
said = subprocess.run(["ldd", *binaries], capture_output=True, text=True).stdout
for path in sorted(set(re.findall(r"(?:=> |^\t)(/[^ ]+) \(", said, re.MULTILINE))):
    if not path.startswith(root):
        copy(path)
for folder in ("tmp", "proc", "dev", "sys", "etc", "usr/bin"):
    os.makedirs(f"{root}/{folder}", exist_ok=True)
os.symlink(interpreter, f"{root}/usr/bin/python3")
PYTHON
    tar -cf - -C "$root" . | podman import --quiet - "$name" >/dev/null
fi
podman image inspect --format '{{index .RepoDigests 0}}' "$name"
