"""The package against the real program, which ``RUNNER`` names or which lies on ``PATH``."""

from pathlib import Path

import numpy
import pytest

import runner


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> runner.Store:
    folder = tmp_path_factory.mktemp("store")
    for epochs in (1, 2):
        runner.run(set={"epochs": epochs}, store=folder, quiet=True)
    return runner.Store(folder)


def test_runs_are_listed_oldest_first(store: runner.Store) -> None:
    names = [run.name for run in store]
    assert len(store) == 2 and names == sorted(names)
    assert store["latest"].name == names[-1]
    assert [run.params["epochs"] for run in store] == [1, 2]


def test_a_second_run_uses_what_is_there(store: runner.Store) -> None:
    again = runner.run(set={"epochs": 2}, store=store.folder, quiet=True)
    assert {stage.state for stage in again} == {"hit"}
    assert again.metrics == store[store.runs()[1].name].metrics


def test_runs_as_a_frame(store: runner.Store) -> None:
    frame = store.to_pandas()
    assert list(frame["param.epochs"])[:2] == [1, 2]
    assert frame["metrics.vus_pr"].between(0, 1).all()
    assert str(frame["started"].dt.tz) == "UTC"


def test_scores_in_every_library(store: runner.Store) -> None:
    scores = store["latest"]["scores"]
    assert scores.kind == "Scores"
    frame = scores.to_pandas()
    arrow = scores.to_arrow()
    assert frame["score"].notna().any() and set(frame["label"].dropna()) <= {0, 1}
    assert numpy.array_equal(frame["score"].to_numpy(), arrow["score"].to_numpy(), equal_nan=True)
    polars = pytest.importorskip("polars")
    assert scores.to_polars().select(polars.len()).item() == len(frame)


def test_outputs_by_port(store: runner.Store) -> None:
    run = store["latest"]
    assert run["model"].kind == "Model" and run["model.log"].kind == "Table"
    assert run["model"].config()["runner.training"]["epochs"] == 2
    assert "score.png" in run["plots"].files()
    with pytest.raises(KeyError, match="has no stage 'scoers'"):
        run["scoers"]
    with pytest.raises(TypeError, match="is a model"):
        run["model"].to_pandas()
    with pytest.raises(TypeError, match="is not a model"):
        run["scores"].state_dict()


def test_state_dict(store: runner.Store) -> None:
    pytest.importorskip("torch")
    tensors = store["latest"]["model"].state_dict()
    assert sum(tensor.numel() for tensor in tensors.values()) > 1000


def test_errors_say_what_the_program_says(store: runner.Store, tmp_path: Path) -> None:
    with pytest.raises(runner.RunnerError, match=r"out-of|at least 1, found `-1`") as wrong:
        runner.run(set={"epochs": -1}, store=store.folder, quiet=True)
    assert wrong.value.exit_code == 2
    with pytest.raises(runner.RunnerError, match="no run matches `zzz`"):
        store["zzz"]
    with pytest.raises(runner.RunnerError, match="there is no such file"):
        runner.run(tmp_path / "nope.yaml", store=store.folder, quiet=True)


def test_what_is_gone_is_said(store: runner.Store, tmp_path: Path) -> None:
    run = runner.run(store=tmp_path, targets=["raw"], quiet=True)
    (action,) = (tmp_path / "v1" / "actions").rglob("*.json")
    action.unlink()
    with pytest.raises(runner.RunnerError, match="no longer in the store"):
        run["raw"]


def test_notebooks_show_tables_and_escape(store: runner.Store) -> None:
    assert "vus_pr" in store["latest"]._repr_html_()
    assert store._repr_html_().count("<tr>") == len(store) + 1
    hostile = runner.Run(store, {"run": "<script>", "pipeline": "a&b", "status": "done", "metrics": {}}, whole=True)
    assert "<script>" not in hostile._repr_html_() and "a&amp;b" in hostile._repr_html_()
