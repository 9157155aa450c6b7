"""What a program of a `command` or `python` stage asks of runner: its job, and reports of its progress.

    import runner
    job = runner.job()
    values = job.array("series")            # NumPy, mapped into memory
    runner.progress(epoch=1, epochs=10, loss=0.5)
"""

from ._job import Job, checkpoint, job, progress

__all__ = ["Job", "checkpoint", "job", "progress"]
