"""The store from Python: its runs, their metrics, and what their stages made."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner._program import RunnerError, call

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


class Store:
    """A folder of results: a sequence of runs, oldest first.

    ``store["latest"]`` or ``store["20261130-1213"]`` is one run, by its name or the start of it.

    Args:
        folder: by default ``cache``, or what ``RUNNER_STORE`` names.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder if folder is not None else os.environ.get("RUNNER_STORE", "cache"))

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        (listed,) = call(["runs"], self.folder)
        return [Run(self, entry) for entry in listed["runs"]]

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs())

    def __len__(self) -> int:
        return len(self.runs())

    def __getitem__(self, name: str) -> Run:
        (record,) = call(["show", name], self.folder)
        return Run(self, record, whole=True)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each run: what it ran, when, with which parameters (``param.NAME``), and its metrics
        (``STAGE.METRIC``). What a run does not have is missing there."""
        import pandas

        return pandas.DataFrame([run._row() for run in self.runs()])

    def _repr_html_(self) -> str:
        rows = [[run.name, run.pipeline, run.status, _shown(run.seconds)] for run in self.runs()]
        return _table(["run", "pipeline", "status", "seconds"], rows)


class Run:
    """One run. Iterating gives its stages; ``run["scores"]`` is what the stage of that name made.

    A stage with several outputs is asked for one of them as ``run["model.log"]``; ``run["model"]`` is the first.
    """

    def __init__(self, store: Store, record: Mapping[str, Any], whole: bool = False) -> None:
        self._store = store
        self._record = dict(record)
        self._whole = whole

    @property
    def record(self) -> dict[str, Any]:
        """The whole record, as ``runner show --json`` prints it."""
        if not self._whole:
            (self._record,) = call(["show", self.name], self._store.folder)
            self._whole = True
        return self._record

    @property
    def name(self) -> str:
        return str(self._record["run"])

    @property
    def pipeline(self) -> str:
        return str(self._record["pipeline"])

    @property
    def status(self) -> str:
        """``done``, ``failed``, ``running`` or ``interrupted``."""
        return str(self._record["status"])

    @property
    def started(self) -> datetime:
        """When it started, in UTC."""
        return datetime.fromtimestamp(self._record["started"] / 1000, tz=timezone.utc)

    @property
    def seconds(self) -> float:
        return float(self._record.get("seconds") or 0.0)

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.record.get("params", {}))

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The metrics of each stage that made some."""
        return dict(self.record.get("metrics", {}))

    @property
    def stages(self) -> dict[str, Stage]:
        return {entry["name"]: Stage(self, entry) for entry in self.record["stages"]}

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages.values())

    def __getitem__(self, name: str) -> Artifact:
        stages = self.stages
        if name in stages:
            return stages[name].output()
        stage, _, port = name.rpartition(".")
        if stage in stages:
            return stages[stage].output(port)
        raise KeyError(f"run {self.name} has no stage {name!r}; it has {', '.join(stages)}")

    def __repr__(self) -> str:
        return f"<Run {self.name} of {self.pipeline}: {self.status}>"

    def _repr_html_(self) -> str:
        rows = [
            [stage, metric, _shown(value)]
            for stage, metrics in self.metrics.items()
            for metric, value in metrics.items()
        ]
        head = f"<p><b>{html.escape(self.pipeline)}</b> {html.escape(self.name)}: {html.escape(self.status)}</p>"
        return head + _table(["stage", "metric", "value"], rows)

    def _row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "run": self.name,
            "pipeline": self.pipeline,
            "status": self.status,
            "started": self.started,
            "seconds": self.seconds,
            "seed": self.record.get("seed"),
        }
        row.update({f"param.{name}": value for name, value in self.params.items()})
        for stage, metrics in self.metrics.items():
            row.update({f"{stage}.{metric}": value for metric, value in metrics.items()})
        return row


class Stage:
    """A stage of a run."""

    def __init__(self, run: Run, entry: Mapping[str, Any]) -> None:
        self._run = run
        self._entry = dict(entry)

    @property
    def name(self) -> str:
        return str(self._entry["name"])

    @property
    def kind(self) -> str:
        return str(self._entry["kind"])

    @property
    def state(self) -> str:
        """``ran``, ``hit``, ``failed`` or ``skipped``."""
        return str(self._entry["state"])

    @property
    def key(self) -> str | None:
        """The key of its outputs: the hash of all that determined them."""
        return self._entry.get("key")

    @property
    def seconds(self) -> float:
        return float(self._entry.get("seconds") or 0.0)

    @property
    def outputs(self) -> dict[str, Artifact]:
        """What it made, by port."""
        if not self._entry.get("digests"):
            return {}
        layout = self._run._store.folder / "v1"
        key = str(self.key)
        path = layout / "actions" / key[:2] / f"{key[2:]}.json"
        try:
            action = json.loads(path.read_text().splitlines()[0])
        except FileNotFoundError:
            raise RunnerError(
                f"the results of {self.name} are no longer in the store {self._run._store.folder}",
                1,
                f"run {self._run.pipeline} again, or fetch them from the remote",
            ) from None
        artifacts = {}
        for entry in action["outputs"]:
            # Another machine may have made other bits under this key since; then these are not the run's.
            if entry["digest"] != self._entry["digests"].get(entry["port"]):
                raise RunnerError(f"the store holds another result of {self.name} than the one of run {self._run.name}", 1)
            artifacts[entry["port"]] = Artifact(self, entry, layout)
        return artifacts

    def output(self, port: str | None = None) -> Artifact:
        """One of its outputs: the one of that port, or the first."""
        outputs = self.outputs
        if not outputs:
            raise RunnerError(f"stage {self.name} of run {self._run.name} made nothing: it is {self.state}", 1)
        if port is None:
            return next(iter(outputs.values()))
        if port not in outputs:
            raise KeyError(f"stage {self.name} has no output {port!r}; it has {', '.join(outputs)}")
        return outputs[port]

    def __repr__(self) -> str:
        return f"<Stage {self.name} ({self.kind}): {self.state}>"


class Artifact:
    """An output of a stage: a file of the store, to be read and never written.

    ``docs/artifacts.md`` says which columns and metadata each kind has.
    """

    def __init__(self, stage: Stage, entry: Mapping[str, Any], layout: Path) -> None:
        self.port = str(entry["port"])
        #: ``Series``, ``Windows``, ``Model``, ``Scores``, ``Forecasts``, ``Predictions``, ``Metrics``, ``Table``, ``Images`` or ``Files``.
        self.kind = str(entry["kind"])
        #: The BLAKE3 of its content: names, shapes, values.
        self.digest = str(entry["digest"])
        self._stage = stage
        found = layout / "objects" / entry["object"][:2] / f"{entry['object'][2:]}.parquet"
        self.path: Path = found if found.exists() else found.with_suffix(".safetensors")

    def to_arrow(self) -> pyarrow.Table:
        """The table, with the metadata in its schema."""
        import pyarrow.parquet

        return pyarrow.parquet.read_table(self._tabular())

    def to_pandas(self) -> pandas.DataFrame:
        import pandas

        return pandas.read_parquet(self._tabular())

    def to_polars(self) -> polars.DataFrame:
        import polars

        return polars.read_parquet(self._tabular())

    def state_dict(self) -> dict[str, Any]:
        """The tensors of a model as PyTorch has them."""
        if self.path.suffix != ".safetensors":
            raise TypeError(f"{self!r} is not a model")
        import safetensors.torch

        return dict(safetensors.torch.load_file(self.path))

    def config(self) -> dict[str, Any]:
        """What the header of a model's file says of it."""
        if self.path.suffix != ".safetensors":
            raise TypeError(f"{self!r} is not a model")
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            metadata = json.loads(file.read(length)).get("__metadata__", {})
        return {name: _parsed(value) for name, value in metadata.items()}

    def files(self) -> dict[str, Path]:
        """The files of an output that is a folder, by name."""
        folder = self._stage._run._store.folder / "v1" / "runs" / self._stage._run.name / "files" / self._stage.name / self.port
        return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def _tabular(self) -> Path:
        if self.path.suffix != ".parquet":
            raise TypeError(f"{self!r} is a model: `state_dict()` reads it")
        return self.path

    def __repr__(self) -> str:
        return f"<{self.kind} {self._stage.name}.{self.port}: {self.path}>"


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = ["<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
