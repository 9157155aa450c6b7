#!/usr/bin/env python3
"""Extends a copy of the repository by everything in examples/extensions, a file and a line each, builds it and uses it.

The copy lies in target/extensions and is kept, so that a second try compiles little. Crates that nothing extends are not
compiled again, nor is any dependency. Exit code 1 if anything fails.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
COPY = ROOT / "target" / "extensions"
EXAMPLES = ROOT / "examples" / "extensions"
# The program has another name in the copy, so that it does not replace the one that was built here.
NAME = "runner-extended"


def write(path, content):
    """Writes a file, unless it is there already: what did not change is not compiled again."""
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def extended():
    """The files of the copy: those of the repository, with each extension's file and line."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    wanted = ("src/", "stages/", "benches/", "examples/", "tests/", "data/", "pipelines/", "python/", "Cargo", "docs/")
    names = [name for name in listed.stdout.split("\0") if name.startswith(wanted) or name.endswith(".md")]
    files = {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}
    for kind, entry in tomllib.loads((EXAMPLES / "extensions.toml").read_text()).items():
        target = f"{entry['folder']}/{entry['file']}"
        assert target not in files, f"{kind}: {target} is there already"
        files[target] = (EXAMPLES / entry["file"]).read_bytes()
        lines = files[entry["list"]].decode().splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.strip().endswith(entry["after"])]
        assert len(places) == 1, f"{kind}: `{entry['after']}` is not one line of {entry['list']}"
        lines.insert(places[0] + 1, f"    {entry['line']}\n")
        files[entry["list"]] = "".join(lines).encode()
    manifest = files["Cargo.toml"].decode()
    assert '[[bin]]\nname = "runner"\n' in manifest, "Cargo.toml names its program in another way"
    files["Cargo.toml"] = manifest.replace('[[bin]]\nname = "runner"\n', f'[[bin]]\nname = "{NAME}"\n').encode()
    return files


def build():
    files = extended()
    for path in sorted(COPY.rglob("*")):
        if path.is_file() and path.relative_to(COPY).as_posix() not in files:
            path.unlink()
    for name, content in files.items():
        write(COPY / name, content)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    # What is tried is that it works, so the copy's own crates need not be fast. Dependencies are those of the repository.
    crates = ["runner", "runner-library", "contract", "data", "judging", "learning", "drawing", "plot", "programs", "stages"]
    options = [word for crate in crates for word in ["--config", f"profile.release.package.{crate}.opt-level=0"]]
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--bin", NAME, *options],
        cwd=COPY, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)},
    )
    return target / "release" / NAME


def use(program):
    """Runs a pipeline of all extensions, the verb, and a sweep on the backend."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in ["pipeline.yaml", "sweep.yaml"]:
            shutil.copy(EXAMPLES / name, folder / name)
        rows = (f"{row} {row * row} {-row}" for row in range(200))
        (folder / "walk.txt").write_text("\n".join(rows) + "\n")

        def run(*arguments):
            environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
            done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
            return done.stdout

        run("run", "pipeline.yaml")
        metrics = json.loads(run("show", "latest", "--json"))["metrics"]
        assert 0 <= metrics["metrics"]["alarm_share"] <= 1, f"the record has no value of the metric: {metrics}"
        assert run("store").strip() == "cache", "the verb prints another folder"
        run("sweep", "sweep.yaml", "--on", "foreground")
        trials = json.loads(run("sweep", "table", "sweep.yaml", "--json"))["trials"]
        assert [trial["state"] for trial in trials] == ["done", "done"], f"the backend did not run the sweep: {trials}"
        for name in ["linear-recon", "sign-sgd", "times-mean", "savetxt", "alarm_share", "difference"]:
            assert name in run("schema"), f"the schema does not know `{name}`"


if __name__ == "__main__":
    try:
        use(build())
    except AssertionError as problem:
        sys.exit(f"{problem}")
    except subprocess.CalledProcessError as problem:
        sys.exit(f"cargo ended with {problem.returncode}")
    print("every extension works with a file and a line")
