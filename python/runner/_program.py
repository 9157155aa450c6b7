"""Finds the program and calls it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner._store import Run

_STAGE_FAILED = 1


class RunnerError(RuntimeError):
    """What the program says when it cannot do what it was asked.

    Attributes:
        exit_code: 1 a stage failed, 2 the command line or the pipeline is wrong and nothing ran, 3 a difference was
            found, 130 interrupted.
        hint: what to do about it, where the program knows.
    """

    def __init__(self, message: str, exit_code: int, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n  hint: {hint}")
        self.exit_code = exit_code
        self.hint = hint


def find_program() -> str:
    """The program's path: what the variable ``RUNNER`` names, or the one beside this interpreter, or the first on ``PATH``."""
    named = os.environ.get("RUNNER")
    if named:
        return named
    beside = Path(sysconfig.get_path("scripts")) / "runner"
    if beside.is_file():
        return str(beside)
    found = shutil.which("runner")
    if found is None:
        raise RunnerError("the program `runner` was not found", 2, "put it on PATH, or let RUNNER name it")
    return found


def call(arguments: list[str], store: str | os.PathLike[str] | None = None, allow: tuple[int, ...] = (0,)) -> list[dict[str, Any]]:
    """Calls the program with ``--json`` and returns the documents that it prints.

    Errors:
        RunnerError: the exit code is not one of ``allow``.
    """
    command = [find_program(), *arguments, "--json"]
    if store is not None:
        command += ["--store", os.fspath(store)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    documents = _documents(finished.stdout)
    if finished.returncode not in allow:
        raise _error(documents, finished.stderr, finished.returncode)
    return documents


def _documents(text: str) -> list[dict[str, Any]]:
    """One document, or one on each line."""
    if not text.strip():
        return []
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _error(documents: list[dict[str, Any]], said: str, exit_code: int) -> RunnerError:
    for document in reversed(documents):
        if "diagnostics" in document:
            return RunnerError("\n".join(map(_diagnostic, document["diagnostics"])), exit_code)
        if "error" in document:
            message = "\n  because ".join([document["error"], *document.get("causes", [])])
            return RunnerError(message, exit_code, document.get("hint"))
    return RunnerError(said.strip() or f"runner ended with exit code {exit_code}", exit_code)


def _diagnostic(found: Mapping[str, Any]) -> str:
    """``FILE:LINE:COLUMN: message``, and the hint."""
    place = [str(found[part]) for part in ("file", "line", "column") if found.get(part) is not None]
    text = ": ".join([":".join(place), found["message"]]) if place else found["message"]
    return f"{text}\n  hint: {found['hint']}" if found.get("hint") else str(text)


def run(
    pipeline: str | os.PathLike[str] | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    profile: str | None = None,
    targets: list[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    offline: bool = False,
    keep_going: bool = False,
    quiet: bool = False,
) -> Run:
    """Runs a pipeline: what is stored already is used, the rest is computed. Progress goes to standard error.

    Args:
        pipeline: the file; without it, the built-in quickstart.
        set: parameters, ``seed``, or keys of a stage such as ``model.with.batch``, with their values.
        profile: a named set of values of the pipeline file.
        targets: only these stages and what they need.
        store: where results are stored; by default ``cache``, or what ``RUNNER_STORE`` names.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: how many threads to use; never changes a result.
        offline: never download data.
        keep_going: after a failure, continue with what does not depend on it, and return the run all the same.
        quiet: print nothing but errors and warnings.

    Errors:
        RunnerError: the pipeline is wrong (``exit_code`` 2) or a stage failed (1).
    """
    from runner._store import Store

    command = [find_program(), "run"]
    if pipeline is not None:
        command.append(os.fspath(pipeline))
    for name, value in (set or {}).items():
        # JSON is YAML, as which the program reads values.
        command += ["--set", f"{name}={json.dumps(value)}"]
    for option, value in [("--profile", profile), ("--store", store), ("--device", device), ("--threads", threads)]:
        if value is not None:
            command += [option, str(value)]
    for target in targets or []:
        command += ["--target", target]
    for option, wanted in [("--offline", offline), ("--keep-going", keep_going), ("--quiet", quiet)]:
        if wanted:
            command.append(option)
    command.append("--json")
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=None if _has_screen() else subprocess.PIPE, text=True, check=False)
    documents = _documents(finished.stdout)
    record = next((document for document in reversed(documents) if "stages" in document and "run" in document), None)
    failed_but_kept = keep_going and record is not None and finished.returncode == _STAGE_FAILED
    if finished.returncode != 0 and not failed_but_kept:
        raise _error(documents, finished.stderr or "", finished.returncode)
    if record is None:
        raise RunnerError("the program printed no record of the run", finished.returncode)
    return Store(store)[record["run"]]


def _has_screen() -> bool:
    """Whether the program's progress can go to this process's standard error; in notebooks it cannot."""
    try:
        return sys.stderr.fileno() == 2  # noqa: PLR2004
    except (AttributeError, OSError, ValueError):
        return False


def version() -> str:
    """The version of the package, which is that of the program in the same wheel."""
    try:
        return metadata.version("runner")
    except metadata.PackageNotFoundError:
        finished = subprocess.run([find_program(), "--version"], stdout=subprocess.PIPE, text=True, check=True)
        return finished.stdout.split()[-1]
