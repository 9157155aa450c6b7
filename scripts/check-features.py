#!/usr/bin/env python3
"""Checks that every crate of the workspace, built alone, uses its dependencies with the features that the workspace has of them.

    scripts/check-features.py

Otherwise `cargo test -p CRATE` compiles them again. What is missing belongs in stages/features/Cargo.toml. Exit code 1 if
something is.
"""

import collections
import json
import subprocess
import sys


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def features(*choice):
    """The sets of features by package, of all packages that a build of this choice compiles."""
    found = collections.defaultdict(set)
    listing = cargo("tree", "--prefix", "none", "--format", "{p}|{f}", "--edges", "normal,dev,build", *choice)
    for line in listing.splitlines():
        package, _, set_of = line.replace(" (*)", "").replace(" (proc-macro)", "").partition("|")
        if "(/" not in package:
            found[package.strip()].add(set_of)
    return found


def main():
    members = json.loads(cargo("metadata", "--no-deps", "--format-version", "1"))["packages"]
    together = features("--workspace")
    bad = 0
    for member in sorted(package["name"] for package in members if package["name"] != "features"):
        for package, sets in sorted(features("--package", member).items()):
            if other := sets - together[package]:
                bad += 1
                print(f"{member}: {package} with {', '.join(other) or 'no features'}")
                print(f"    the workspace has it with {' or with '.join(sorted(together[package]))}")
    sys.exit(bad > 0)


main()
