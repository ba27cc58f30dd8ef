import mlflow
import pandas as pd
import plotly.graph_objects as go
import pytest
from mlflow.tracking import MlflowClient

from sentio_kedro.tracking.client import (
    log_curves,
    log_figures,
    log_frame,
    log_metrics,
    log_tags,
    log_text,
    nested_run,
    own_run,
    without_credentials,
)

CURVES = pd.DataFrame({"update": [0, 5], "reward": [0.1, 0.2], "sharpe": [float("nan"), 1.5], "note": ["a", "b"]})


@pytest.fixture
def client(store):
    return store


def test_everything_that_nodes_log_arrives(client, tmp_path):
    with mlflow.start_run() as run:
        log_curves(CURVES, step="update")
        log_metrics({"sharpe": 1.0, "sharpe_low": None, "drawdown": float("nan"), "name": "x"}, prefix="test.")
        log_figures({"equity": go.Figure(go.Scatter(y=[1, 2]))})
        log_text("<p>report</p>", "report.html")
        log_frame(CURVES, "returns.parquet")
        log_frame(CURVES, "comparison.csv")
        log_tags({"sentio.scheme": "combinatorial"})
    metrics = client.get_run(run.info.run_id).data.metrics
    assert metrics == {"reward": 0.2, "sharpe": 1.5, "test.sharpe": 1.0}
    assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "reward")] == [
        (0, 0.1),
        (5, 0.2),
    ]
    root = tmp_path / "artifacts" / run.info.run_id / "artifacts"
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == {
        "figures/equity.html",
        "report.html",
        "returns.parquet",
        "comparison.csv",
    }
    assert client.get_run(run.info.run_id).data.tags["sentio.scheme"] == "combinatorial"
    pd.testing.assert_frame_equal(pd.read_parquet(root / "returns.parquet"), CURVES)


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_nested_run_ends_as_its_body_does_and_is_continued(client, error, status):
    with mlflow.start_run() as parent:
        with pytest.raises(error), nested_run("fold 0", {"fold": "0"}) as first:
            raise error
        assert mlflow.active_run().info.run_id == parent.info.run_id
        assert client.get_run(first).info.status == status
        with nested_run("fold 0", {"fold": "0"}) as second, nested_run("seed 0", {"seed": "0"}) as inner:
            assert mlflow.active_run().info.run_id == inner
    assert second == first
    assert client.get_run(second).info.status == "FINISHED"
    assert client.get_run(second).data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert client.get_run(inner).data.tags["mlflow.parentRunId"] == first


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_of_its_own_ends_as_its_body_does_and_is_continued(client, error, status):
    with pytest.raises(error), own_run("toy", "comparison", {"compared": "x"}) as first:
        raise error
    assert client.get_run(first).info.status == status
    with own_run("toy", "comparison", {"compared": "x"}) as second:
        assert mlflow.active_run().info.run_id == second == first
    assert client.get_run(first).info.status == "FINISHED"
    with own_run("toy", "comparison", {"compared": "y"}) as third:
        pass
    assert third != first
    assert client.get_run(third).info.status == "FINISHED"


def test_runs_of_two_parents_stay_apart(client):
    ids = []
    for _ in range(2):
        with mlflow.start_run(), nested_run("fold 0", {"fold": "0"}) as run_id:
            ids.append(run_id)
    assert ids[0] != ids[1]


def test_without_a_run_nothing_is_logged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with nested_run("fold 0", {"fold": "0"}) as run_id:
        log_curves(CURVES, step="update")
        log_metrics({"sharpe": 1.0})
        log_figures({"equity": go.Figure()})
        log_text("", "report.html")
    assert run_id is None
    assert mlflow.active_run() is None
    assert list(tmp_path.iterdir()) == []


def test_store_that_fails_in_the_middle_does_not_stop_the_body(client, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise ConnectionError("https://user:passw0rd@server is gone")

    with mlflow.start_run(), nested_run("fold 0", {"fold": "0"}):
        monkeypatch.setattr(MlflowClient, "log_batch", broken)
        log_metrics({"sharpe": 1.0})
        log_metrics({"sharpe": 1.0})
        done = True
    assert done
    assert caplog.text.count("goes on untracked") == 1
    assert "passw0rd" not in caplog.text


def test_passwords_are_blotted_out_of_addresses():
    assert without_credentials("at postgresql://me:pw@host/db") == "at postgresql://***@host/db"
