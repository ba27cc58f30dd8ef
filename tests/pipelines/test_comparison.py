"""Runs are read back from MLflow, compared, and the comparison is tracked."""

import mlflow
import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import ComparisonParameters
from sentio_kedro.pipelines.comparison import nodes
from sentio_kedro.tracking import client as tracking
from sentio_kedro.tracking.runs import StoreError, find_tested_runs
from sentio_kedro.tracking.tags import COMMIT_TAG, describe_origin, execution_digest, variant_of


def track_run(variant, number, status="FINISHED", bars=60, sharpe=1.0, **tags):
    """Log what a finished run of agents leaves."""
    timestamps = pd.date_range("2024-01-01", periods=bars, freq="D", tz="UTC")
    earned = np.random.default_rng(number).normal(0.001, 0.01, bars)
    frame = pd.DataFrame({"timestamp": timestamps, "fold": 0, "market": 0.01, "seed_0": earned})
    known = {"sentio.agents": f"{number:064x}"[::-1], "sentio.variant": variant}
    known |= {"sentio.bars": "b", "sentio.execution": "e"}
    with mlflow.start_run(run_name=f"{variant} {number}", tags={**known, **tags}) as run:
        tracking.log_metrics({"agent.sharpe": sharpe, "agent.periods_per_year": 252.0}, prefix="out_of_sample.")
        tracking.log_frame(frame, tracking.RETURNS_FILE)
        with mlflow.start_run(nested=True, tags={"fold": "0"}):
            tracking.log_metrics({"reward": 1.0})
        mlflow.end_run(status)
    return run.info.run_id


def parameters(**changes):
    return ComparisonParameters(experiment="toy", metrics=["agent.sharpe"], bootstrap_samples=20, **changes)


def names(wanted=None, newest=8):
    return [run.name for run in find_tested_runs("toy", wanted, newest)]


def test_runs_are_found_by_id_name_agents_or_variant_and_else_the_newest_finished_ones(store):
    first = track_run("enhanced", 1)
    track_run("maskable", 2)
    track_run("maskable", 3)
    track_run("maskable", 4, status="FAILED")
    assert names() == ["maskable 3", "maskable 2", "enhanced 1"]
    assert names(newest=2) == ["maskable 3", "maskable 2"]
    assert names([first[:8], "maskable", "maskable 2", "1000", "enhanced"]) == [
        "enhanced 1",
        "maskable 3",
        "maskable 2",
    ]
    with pytest.raises(StoreError, match=r"`standard` names no finished run .*maskable 3 \("):
        names(["standard"])


def test_what_was_logged_comes_back(store):
    track_run("enhanced", 1, sharpe=2.5)
    (run,) = find_tested_runs("toy", None, 8)
    assert run.metrics == {"agent.sharpe": 2.5, "agent.periods_per_year": 252.0}
    assert (run.variant, run.origin, run.periods_per_year) == ("enhanced", {"bars": "b", "execution": "e"}, 252.0)
    with mlflow.start_run(run_id=run.run_id):
        tracking.log_text('{"agent": {"omega": 1.5, "sharpe": 9.0}, "baselines": []}', "metrics.json")
    assert find_tested_runs("toy", None, 8)[0].metrics == run.metrics | {"agent.omega": 1.5}
    assert run.returns["seed_0"].tolist() == np.random.default_rng(1).normal(0.001, 0.01, 60).tolist()
    assert str(run.returns["timestamp"].dt.tz) == "UTC"


def test_an_experiment_without_a_judged_run_says_what_makes_one(store):
    with pytest.raises(StoreError, match=r"`toy` holds no finished run .*`kedro run` makes one"):
        find_tested_runs("toy", None, 8)
    with pytest.raises(StoreError, match="`nowhere` holds no finished run"):
        find_tested_runs("nowhere", None, 8)


def test_a_comparison_is_a_run_of_its_own_that_the_same_comparison_continues(store, tmp_path):
    track_run("enhanced", 1)
    track_run("maskable", 2)
    track_run("maskable", 3, **{"sentio.bars": "other"})
    wanted = parameters(runs="enhanced maskable")
    for _ in range(2):
        table = nodes.compare(wanted)
        nodes.track(table, nodes.draw(table), nodes.write(table, wanted), wanted)
    assert table["comparable"].tolist() == [True, False]
    (run,) = store.search_runs(["1"], "attributes.run_name = 'comparison'")
    assert run.info.status == "FINISHED"
    artifacts = tmp_path / "artifacts" / run.info.run_id / "artifacts"
    assert pd.read_csv(artifacts / "comparison.csv")["differs_in"].tolist()[1] == "other bars"
    assert "other bars" in (artifacts / "comparison.md").read_text()
    assert (artifacts / "figures" / "comparison.html").exists()
    assert names() == ["maskable 3", "maskable 2", "enhanced 1"]


def test_a_store_that_fails_is_named_without_its_password(store, monkeypatch):
    def broken(*args, **kwargs):
        raise ConnectionError("postgresql://me:pa55@host is gone")

    monkeypatch.setattr("mlflow.tracking.MlflowClient.get_experiment_by_name", broken)
    with pytest.raises(StoreError, match="is gone") as refused:
        find_tested_runs("toy", None, 8)
    assert "pa55" not in str(refused.value)


def test_runs_may_be_a_list_or_one_line():
    assert parameters(runs=["a", "b"]).wanted == parameters(runs="a  b").wanted == ["a", "b"]
    assert parameters().wanted is None
    assert parameters(runs="").wanted is None


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "enhanced"),
        ({"network.variant": "standard"}, "standard/enhanced"),
    ],
)
def test_a_variant_is_named_by_network_and_training(changes, name):
    known = {"training.variant": "enhanced", "network.variant": "enhanced"}
    assert variant_of(known | changes) == name


def test_what_trades_cost_makes_the_execution_and_what_agents_may_do_does_not():
    known = {"trading.costs.impact": 1.0, "trading.orders.latency_bars": 0, "trading.max_drawdown": 0.08}
    assert execution_digest(known) == execution_digest(known | {"trading.max_drawdown": 0.5, "network.width": 8})
    for name in ("trading.costs.impact", "trading.orders.latency_bars"):
        assert execution_digest(known | {name: 7}) != execution_digest(known)


def test_a_run_tells_its_origin_with_and_without_git(tmp_path, monkeypatch):
    known = {"training.variant": "maskable", "ingestion.universe": "dated", "cross_validation.scheme": "walk_forward"}
    tags = describe_origin("hash", known | {"training.seeds": 3}, tmp_path)
    assert COMMIT_TAG not in tags
    assert len(tags.pop("sentio.code")) == len(tags.pop("sentio.execution")) == 64
    assert tags == {
        **{"sentio.variant": "maskable", "sentio.bars": "hash", "sentio.universe_bias": "dated"},
        **{"sentio.scheme": "walk_forward", "sentio.seeds": "3"},
    }
    monkeypatch.setattr("sentio_kedro.tracking.tags.get_git_commit", lambda folder: "abc")
    assert describe_origin("hash", known, tmp_path)[COMMIT_TAG] == "abc"


def test_an_external_agent_does_not_pretend_to_pay_what_this_project_pays(tmp_path):
    tags = describe_origin("hash", {"training.variant": "maskable"}, tmp_path, external=True)
    assert "sentio.execution" not in tags
    assert tags["sentio.variant"] == "external"
