"""An interpreter that waits with its packages imported, and makes a fresh copy of itself for each stage that asks.

It imports what comes from the environment and nothing of the user's, computes nothing, and never runs a stage itself: a
stage sees what it would see in an interpreter of its own, with the imports done. It speaks with runner over the socket that
is its standard input, a packet of JSON a message.
"""

import ast
import gc
import importlib
import json
import os
import socket
import sys
import traceback
import warnings

# Where this package lies, which may be gone by the time that a stage begins.
PLACE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main():
    about = json.loads(sys.argv[1])
    runner = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
    import_packages(about)
    runner.send(json.dumps({"threads": threads_that_stay()}).encode())
    gc.collect()
    gc.freeze()
    while True:
        message, streams, _, _ = socket.recv_fds(runner, 1 << 16, 3)
        if not message:
            return
        wish = json.loads(message)
        if "reap" in wish:
            answer = {"status": os.waitpid(wish["reap"], 0)[1]}
        else:
            answer = {"process": begin(wish["folder"], streams, runner)}
        runner.send(json.dumps(answer).encode())


def import_packages(about):
    """What the detector's module imports, as far as it is not the user's own."""
    from . import _worker

    # Where this interpreter was started, which is no place of a stage.
    sys.path[:] = [path for path in sys.path if path not in ("", "/")]
    # NumPy loads the second when random numbers are first asked for, the third when an array is mapped.
    names = ["numpy", "numpy.random", "mmap", *about["modules"]]
    for path in about["files"]:
        names += imported_by(path)
    own = set(about["own"])
    for name in names:
        if name.split(".")[0] in own:
            continue
        try:
            importlib.import_module(name)
        except Exception:
            # The stage meets it again, and says what it means.
            pass
    _worker.before.update(set(sys.modules) - set(_worker.foreign_modules()))


def imported_by(path):
    """The modules that a file imports at its top."""
    try:
        with open(path, "rb") as file:
            statements = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return []
    names = []
    for statement in statements:
        if isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            names.append(statement.module)
    return names


# Threads that a copy can do without: jemalloc, the allocator of Arrow, starts its own anew.
DISPENSABLE = ("jemalloc_bg_thd",)


def threads_that_stay():
    """How many threads a copy would lack. Libraries that know about copies (OpenBLAS) end theirs before one is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = os.fork()
    if copy == 0:
        os._exit(0)
    os.waitpid(copy, 0)
    names = []
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/comm") as file:
            names.append(file.read().strip())
    return len([name for name in names if name not in DISPENSABLE]) - 1


def begin(folder, streams, runner):
    """Starts a stage, as the first process of a group of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process = os.fork()
    if process == 0:
        try:
            become(folder, streams, runner)
        except BaseException:
            traceback.print_exc()
        os._exit(70)
    try:
        os.setpgid(process, process)
    except OSError:
        # It has done so itself, and is on its way.
        pass
    for stream in streams:
        os.close(stream)
    return process


def become(folder, streams, runner):
    """Makes this process what a stage starts as, and does its work."""
    os.setpgid(0, 0)
    runner.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    os.chdir(folder)
    state = os.path.join(folder, ".runner")
    searched = os.environ["PYTHONPATH"].split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(".runner" if path == PLACE else path for path in searched)
    sys.path[:] = [path for path in sys.path if path not in ("", "/", PLACE)]
    package = sys.modules[__package__]
    package.__path__[:] = [os.path.join(state, "runner")]
    sys.argv[:] = sys.argv[:1]
    from . import _job, _worker

    _job.enter(folder)
    _worker.enter(folder, own=PLACE)
    _worker.main()


if __name__ == "__main__":
    main()
