"""Time-series experiments that can be trusted: the Python side of ``runner``.

Outside a stage, this package starts pipelines and opens what the store holds::

    import runner

    run = runner.run("pipelines/smd_tvnet.yaml", set={"machine": "machine-1-6"})
    run.metrics["metrics"]["vus_pr"]
    run["scores"].to_pandas()

    runner.Store("cache").to_pandas()      # all runs, a row each

The program itself comes with the same wheel.
"""

from runner.program import RunnerError, run, version
from runner.store import Artifact, Run, Stage, Store

__all__ = ["Artifact", "Run", "RunnerError", "Stage", "Store", "run", "version"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        return version()
    raise AttributeError(f"module 'runner' has no attribute {name!r}")
