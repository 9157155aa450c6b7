"""Does what a `python` stage asks: loads a detector, fits it on the rows that it is given, then gets the rows to be scored,
and writes a score for each. Labels, and rows that nothing may be learned from, are not there while it fits.
"""

import functools
import importlib
import importlib.util
import inspect
import json
import os
import random
import site
import sys
import sysconfig
import tempfile
import time
import traceback
import weakref

from . import _job


# When this interpreter was started.
STARTED = time.time()


def enter(folder, own=None):
    """Begins a stage in its folder, which the detector may leave. `own` is where this package lies, if that is elsewhere."""
    global FOLDER, STATE, OWN, inherited
    # What is to be tidied up at the end of the interpreter that this one is a copy of.
    inherited = set(getattr(weakref.finalize, "_registry", ()))
    FOLDER = folder
    STATE = os.path.join(folder, ".runner")
    OWN = own or STATE


enter(os.getcwd())


class Refused(Exception):
    """Something about the detector that is said without a traceback."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


def main():
    # What is answered comes on standard input, which a detector does not see.
    answers = os.fdopen(os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    with open(os.path.join(FOLDER, "job.json")) as file:
        job = json.load(file)
    sys.path[:] = [os.path.join(FOLDER, path) for path in job["paths"]] + [
        path for path in sys.path if path and os.path.abspath(path) not in (FOLDER, STATE)
    ] + [STATE]
    step = Step()
    try:
        work(job, answers, step)
    except BaseException as error:
        tell(error, step)
        end(3)
    write_state("imported.json", foreign_modules())
    end(0)


def end(status):
    """Ends this process. Threads and processes that a detector left behind do not keep it; temporary folders go."""
    for finalizer in set(getattr(weakref.finalize, "_registry", ())) - inherited:
        try:
            if finalizer.atexit:
                finalizer()
        except Exception:
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Step:
    """What is done at the moment, for messages."""

    name = "import"


def work(job, answers, step):
    import numpy

    seed(job["seed"], numpy)
    found = load_detector(job["detector"])
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(job["seed"])
    task = TASKS[job["task"]](job, found, step, numpy)
    task.fit(Rows(job["fit"], numpy))
    _job.report(fitted=True)
    line = answers.readline()
    if not line:
        raise Refused("runner ended")
    values = task.apply(Rows(json.loads(line), numpy))
    step.name = "save"
    numpy.save(os.path.join(FOLDER, job["result"]), values)


def seed(number, numpy):
    random.seed(number)
    numpy.random.seed(number % 2**32)


def load_detector(detector):
    """The object that a detector names: `files/mine.py:Detector` or `pyod.models.ecod:ECOD`."""
    place, _, name = detector.rpartition(":")
    if place.endswith(".py"):
        stem = os.path.splitext(os.path.basename(place))[0]
        spec = importlib.util.spec_from_file_location(stem, os.path.join(FOLDER, place))
        module = importlib.util.module_from_spec(spec)
        sys.modules[stem] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    for part in name.split("."):
        if not hasattr(module, part):
            there = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
            hint = f"there are {', '.join(sorted(there)[:20])}" if there else None
            raise Refused(f"`{place}` has no `{name}`", hint)
        module = getattr(module, part)
    return module


class Rows:
    """Values of some segments."""

    def __init__(self, about, numpy):
        self.about = about
        self.numpy = numpy
        self.segments = about["segments"]
        self.values = _job.load(os.path.join(FOLDER, about["path"]))

    def labels(self):
        path = self.about.get("labels")
        return None if path is None else _job.load(os.path.join(FOLDER, path))

    def targets(self):
        path = self.about.get("targets")
        return None if path is None else _job.load(os.path.join(FOLDER, path))


def windows(values, length, stride, numpy):
    """[windows, length, channels], a view."""
    view = numpy.lib.stride_tricks.sliding_window_view(values, length, axis=0)
    return view[::stride].swapaxes(1, 2)


class Task:
    def __init__(self, job, found, step, numpy):
        self.params = job["params"]
        self.length = job.get("length")
        self.flatten = job["flatten"]
        self.batch = job["batch"]
        self.sign = job["sign"]
        self.step = step
        self.numpy = numpy
        self.detector = self.made(found)

    def made(self, found):
        """An object with methods; a function stays one."""
        self.step.name = "create"
        if inspect.isclass(found):
            return found(**self.params)
        if not callable(found) and not hasattr(found, "fit"):
            raise Refused(f"it is {type(found).__name__}, not a function and not a class")
        return found

    def samples(self, values):
        """As the detector takes them."""
        if self.flatten and values.ndim > 2:
            return self.numpy.ascontiguousarray(values).reshape(len(values), -1)
        return values

    def call(self, name, function, *arguments, **named):
        self.step.name = name
        return function(*arguments, **named)

    def in_batches(self, name, function, values):
        """What a method says of samples, a batch at a time."""
        if self.batch is None or len(values) <= self.batch:
            return self.call(name, function, self.samples(values))
        parts = []
        for start in range(0, len(values), self.batch):
            part = self.samples(values[start : start + self.batch])
            parts.append(self.array(name, self.call(name, function, part)))
            _job.report(done=min(start + self.batch, len(values)), total=len(values), unit="window")
        return self.numpy.concatenate(parts)

    def array(self, name, result):
        """A result as an array of numbers."""
        if hasattr(result, "detach"):
            result = result.detach().cpu()
        try:
            array = self.numpy.asarray(result)
            if array.dtype.kind not in "fiub":
                raise TypeError
            return array.astype(self.numpy.float64, copy=False)
        except (TypeError, ValueError):
            text = repr(result)
            shown = text if len(text) < 80 else text[:80] + "…"
            raise Refused(f"`{name}` gave {shown}, which is {type(result).__name__}, not an array of numbers") from None

    def fit_object(self, rows, second=None):
        if inspect.isfunction(self.detector) or not hasattr(self.detector, "fit"):
            return
        values = self.training_values(rows)
        if second is None:
            self.call("fit", self.detector.fit, self.samples(values))
        else:
            self.call("fit", self.detector.fit, self.samples(values), second)

    def training_values(self, rows):
        if self.length is None:
            return rows.values
        parts = []
        for run in rows.about["runs"]:
            start, end = run["first"], run["first"] + (run["count"] - 1) * run["stride"] + self.length
            if run["count"] > 0:
                parts.append(windows(rows.values[start:end], self.length, run["stride"], self.numpy))
        if not parts:
            raise Refused("there are no windows to learn from")
        return parts[0] if len(parts) == 1 else self.numpy.concatenate(parts)


class Detect(Task):
    """A score for each row."""

    def fit(self, rows):
        self.training = rows
        if self.is_function():
            return
        self.fit_object(rows, self.training_labels(rows))

    def training_labels(self, rows):
        labels = rows.labels()
        if labels is None or self.length is None:
            return labels
        # A window is what its last row is.
        return self.numpy.concatenate(
            [
                labels[run["first"] + self.length - 1 :][:: run["stride"]][: run["count"]]
                for run in rows.about["runs"]
                if run["count"] > 0
            ]
        )

    def is_function(self):
        methods = ("fit", "decision_function", "score_samples", "score", "predict")
        return not any(hasattr(self.detector, method) for method in methods)

    def apply(self, rows):
        scores = []
        for number, segment in enumerate(rows.segments):
            start, end = segment["rows"]
            if self.length is None:
                found = self.of_rows(rows.values[start:end])
            else:
                found = self.of_windows(rows.values[segment["from"] : end], start - segment["from"])
            if found.shape != (end - start,):
                raise Refused(
                    f"`{self.step.name}` gave an array of shape {list(found.shape)} for the {end - start} rows of "
                    f"`{segment['entity']}` in {segment['split']}",
                    "give one score for each row",
                )
            scores.append(self.sign * found)
            _job.report(done=number + 1, total=len(rows.segments), unit="segment")
        return self.numpy.concatenate(scores)

    def of_rows(self, values):
        return self.judged(values)

    def of_windows(self, values, before):
        """By the window that ends at a row; rows before the end of the first window get theirs from that one."""
        taken = windows(values, self.length, 1, self.numpy)
        found = self.judged(taken)
        if len(found) != len(taken):
            raise Refused(
                f"`{self.step.name}` gave {len(found)} scores for {len(taken)} windows", "give one score for each window"
            )
        if found.ndim == 1:
            first = self.numpy.full(self.length, found[0])
        elif found.shape[1:] == (self.length,):
            first, found = found[0], found[:, -1]
        else:
            raise Refused(
                f"`{self.step.name}` gave an array of shape {list(found.shape)} for {len(taken)} windows of "
                f"{self.length} rows",
                "give one score for each window, or one for each row of each window",
            )
        return self.numpy.concatenate([first, found[1:]])[before:]

    def judged(self, values):
        if self.is_function():
            return self.by_function(values)
        for name in ("decision_function", "score_samples", "score"):
            method = getattr(self.detector, name, None)
            if method is not None:
                return self.array(name, self.in_batches(name, method, values))
        predict = getattr(self.detector, "predict", None)
        if predict is None:
            raise Refused(
                "it has no method that gives scores",
                "a detector is a function, or a class with `decision_function`, `score_samples`, `score` or `predict`",
            )
        found = self.array("predict", self.in_batches("predict", predict, values))
        expected = self.samples(values)
        if found.shape != expected.shape or found.ndim < 2:
            return found
        # What it reconstructs is as anomalous as it is far off.
        error = (found - expected) ** 2
        if self.length is not None and not self.flatten:
            return error.mean(axis=2)
        return error.mean(axis=tuple(range(1, error.ndim)))

    def by_function(self, values):
        name = getattr(self.detector, "__name__", "function")
        named = dict(self.params) if not inspect.isclass(self.detector) else {}
        try:
            parameters = inspect.signature(self.detector).parameters
        except (TypeError, ValueError):
            parameters = {}
        if "train" in parameters and "train" not in named:
            named["train"] = self.samples(self.training_values(self.training))
        labels = self.training.labels()
        if "labels" in parameters and labels is not None:
            named["labels"] = labels
        function = lambda part: self.detector(part, **named)
        return self.array(name, self.in_batches(name, function, values))


class Forecast(Task):
    """What follows each window: [windows, horizon, channels]."""

    def fit(self, rows):
        self.fit_object(rows, rows.targets())

    def apply(self, rows):
        values = self.numpy.concatenate(
            [
                windows(rows.values[run["first"] :], self.length, run["stride"], self.numpy)[: run["count"]]
                for run in rows.about["runs"]
                if run["count"] > 0
            ]
        )
        method = getattr(self.detector, "predict", None) or self.detector
        if not callable(method):
            raise Refused("it has no method `predict`")
        found = self.array("predict", self.in_batches("predict", method, values))
        horizon, channels = rows.about["horizon"], rows.values.shape[1]
        if found.size != len(values) * horizon * channels or len(found) != len(values):
            raise Refused(
                f"`predict` gave an array of shape {list(found.shape)} for {len(values)} windows",
                f"the shape is [windows, {horizon} steps, {channels} channels]",
            )
        return found.reshape(len(values), horizon, channels)


class Classify(Task):
    """A probability for each class of each sample; a sample is a segment."""

    def fit(self, rows):
        classes = [segment["class"] for segment in rows.segments]
        self.fit_object(rows, self.numpy.array(classes))

    def training_values(self, rows):
        return self.stacked(rows)

    def stacked(self, rows):
        parts = [rows.values[start:end] for start, end in (segment["rows"] for segment in rows.segments)]
        if len({len(part) for part in parts}) > 1:
            return parts
        return self.numpy.stack(parts)

    def samples(self, values):
        return values if isinstance(values, list) else super().samples(values)

    def apply(self, rows):
        values = self.stacked(rows)
        names = rows.about["classes"]
        if hasattr(self.detector, "predict_proba"):
            found = self.array("predict_proba", self.in_batches("predict_proba", self.detector.predict_proba, values))
            order = [str(name) for name in getattr(self.detector, "classes_", names)]
            if found.shape != (len(values), len(order)):
                raise Refused(f"`predict_proba` gave an array of shape {list(found.shape)} for {len(values)} samples")
            full = self.numpy.zeros((len(values), len(names)))
            for place, name in enumerate(order):
                full[:, names.index(name)] = found[:, place]
            return full
        told = self.call("predict", self.detector.predict, self.samples(values))
        if len(told) != len(values):
            raise Refused(f"`predict` gave {len(told)} classes for {len(values)} samples")
        full = self.numpy.zeros((len(values), len(names)))
        for place, name in enumerate(told):
            full[place, names.index(str(name))] = 1
        return full


TASKS = {"detect": Detect, "forecast": Forecast, "classify": Classify}


def tell(error, step):
    """Says what went wrong: to people as Python does, and to runner where it was."""
    about = {"step": step.name, "type": type(error).__name__, "message": str(error)}
    if isinstance(error, Refused):
        about.update(type=None, hint=error.hint)
    else:
        sys.stderr.write(told_by_its_own_code(error))
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            inside = os.path.relpath(frame.filename, FOLDER)
            if inside.startswith("files" + os.sep):
                about.update(file=inside, line=frame.lineno)
                break
        if isinstance(error, SyntaxError) and error.filename:
            inside = os.path.relpath(error.filename, FOLDER)
            if inside.startswith("files" + os.sep):
                about.update(file=inside, line=error.lineno)
    write_state("failure.json", about)
    sys.stdout.flush()
    sys.stderr.flush()


def told_by_its_own_code(error):
    """A traceback as Python prints it, from the first line of the detector on, with the paths that its author knows."""
    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename == __file__:
        place = place.tb_next
    text = "".join(traceback.format_exception(type(error), error, place))
    return text.replace(os.path.join(FOLDER, "files") + os.sep, "")


@functools.cache
def environment():
    """The folders of the environment."""
    known = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    known += site.getsitepackages() + [site.getusersitepackages()]
    known += [os.path.dirname(os.__file__), os.path.join(sys.base_prefix, "lib"), os.path.join(sys.prefix, "lib")]
    return [path for path in known if path]


# Modules of the environment that were there before the stage.
before: set[str] = set()


def foreign_modules():
    """Modules that come neither from the environment nor from the folder of the stage, with their files."""
    roots = tuple({os.path.realpath(path) + os.sep for path in (*environment(), FOLDER, OWN)})
    found = {}
    for name, module in list(sys.modules.items()):
        if name in before:
            continue
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not os.path.isabs(path):
            continue
        path = os.path.realpath(path)
        if not path.startswith(roots) and os.path.exists(path) and not was_generated(path):
            found[name] = module.__file__
    return found


def was_generated(path):
    """Whether a module was written by code that ran in this interpreter: PyTorch does so when it is imported."""
    temporary = os.path.realpath(tempfile.gettempdir()) + os.sep
    return path.startswith(temporary) and os.path.getctime(path) >= STARTED


def write_state(name, about):
    with open(os.path.join(STATE, name), "w") as file:
        json.dump(about, file)


if __name__ == "__main__":
    main()
