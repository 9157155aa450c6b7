"""Time-series experiments that can be trusted: the Python side of ``runner``.

In a program of a ``command`` or ``python`` stage, it is the job, and reports of its progress::

    import runner
    job = runner.job()
    values = job.array("series")            # NumPy, mapped into memory
    runner.progress(epoch=1, epochs=10, loss=0.5)

Outside, it starts pipelines and opens what the store holds::

    run = runner.run("pipelines/smd_tvnet.yaml", set={"machine": "machine-1-6"})
    run["scores"].to_pandas()
    runner.Store("cache").to_pandas()       # all runs, a row each
"""

from typing import TYPE_CHECKING, Any

from ._job import Job, checkpoint, job, progress

if TYPE_CHECKING:
    from ._program import RunnerError, run, version
    from ._store import Artifact, Run, Stage, Store

__all__ = [
    "Artifact", "Job", "Run", "RunnerError", "Stage", "Store", "checkpoint", "job", "progress", "run", "version",
]

# Read when they are asked for: a stage's program starts without them.
_LATER = {
    "RunnerError": "_program", "run": "_program", "version": "_program",
    "Artifact": "_store", "Run": "_store", "Stage": "_store", "Store": "_store",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return __getattr__("version")()
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
