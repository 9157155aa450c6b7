"""The job file as an object, and reports to runner. Needs NumPy only where arrays are asked for."""

import json
import os
import sys


def report(**about):
    """Reports something: a line that runner takes out of what the program prints."""
    line = "@runner " + json.dumps(about) + "\n"
    sys.stdout.flush()
    os.write(_stream, line.encode())


def enter(folder):
    """Begins a program in a folder. Its standard output is kept apart, so that a detector may close or replace it."""
    global _folder, _stream
    _folder = folder
    _stream = os.dup(1)


enter(os.getcwd())


def progress(**figures):
    """How far it is, such as `progress(epoch=3, epochs=10, loss=0.5)`: a bar on the screen, and a line in the log."""
    report(**{name: _plain(value) for name, value in figures.items()})


def _plain(value):
    """A number as JSON has it: NumPy and PyTorch have types of their own."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def checkpoint():
    """Keeps what lies in the folder of checkpoints now, whatever becomes of this process."""
    report(checkpoint=True)


class Job:
    """What runner asks of this program. Paths are relative to the folder in which it was started."""

    def __init__(self, about, folder):
        self.about = about
        self.folder = folder
        self.inputs = about["inputs"]
        self.outputs = about["outputs"]
        self.params = about["params"]
        self.seed = about["seed"]
        self.device = about["device"]
        self.threads = about["threads"]
        self.memory = about.get("memory")

    @property
    def checkpoints(self):
        """The folder whose content survives interruptions; None if the stage has none."""
        name = self.about.get("checkpoints")
        return name and self.path(name)

    def path(self, relative):
        """An absolute path."""
        return os.path.join(self.folder, relative)

    def array(self, name):
        """An input in the form `npy`, mapped into memory: changes stay in this process."""
        return load(self.path(self.inputs[name]["path"]))

    def labels(self, name):
        """The labels of an input: 0, 1, and -1 where they are not given. None if there are none."""
        path = self.inputs[name].get("labels")
        return path and load(self.path(path))

    def save(self, name, array):
        """Writes an output of the form `.npy`."""
        import numpy

        numpy.save(self.path(self.outputs[name]["path"]), array)


def load(path):
    """An array that is read where it is used; writing to it changes no file."""
    import numpy

    if os.path.getsize(path) == 0:
        return numpy.load(path)
    array = numpy.load(path, mmap_mode="c")
    return array.view(numpy.ndarray)


def job():
    """The job of this program."""
    path = os.path.join(_folder, os.environ.get("RUNNER_JOB", "job.json"))
    try:
        with open(path) as file:
            return Job(json.load(file), _folder)
    except FileNotFoundError:
        raise RuntimeError("there is no job: runner starts this program in a `command` or `python` stage") from None
