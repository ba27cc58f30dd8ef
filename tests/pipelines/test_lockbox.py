"""The lockbox through Kedro: on record before a look, and unseen by everything else."""

import json
import re
import shutil
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from kedro.runner import SequentialRunner
from mlflow.tracking import MlflowClient

from sentio_kedro.evaluation import lockbox
from sentio_kedro.manifests import StaleArtifactsError
from sentio_kedro.pipeline_registry import register_pipelines
from sentio_kedro.pipelines.backtest import nodes as backtest_nodes
from sentio_kedro.pipelines.lockbox.nodes import OPENINGS_TAG
from sentio_kedro.pipelines.lockbox.pipeline import create_pipeline

QUICK = {"backtest": {"baselines": []}}
LEDGER = "data/registry/lockbox_openings.jsonl"


@pytest.fixture
def copied(finished, tmp_path):
    return finished.copy(tmp_path)


def ledger(project):
    path = project.path / LEDGER
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def parent_run(project):
    client = MlflowClient(f"sqlite:///{project.path / 'mlflow.db'}")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    (run,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return run


def test_each_opening_is_on_record_with_its_result_and_in_the_agents_run(copied):
    copied.run("lockbox", params=QUICK)
    copied.run("lockbox", params=QUICK)
    records = ledger(copied)
    assert [record["event"] for record in records] == ["opened", "result", "opened", "result"]
    assert records[0]["opening"] == records[1]["opening"] != records[2]["opening"] == records[3]["opening"]
    metrics = json.loads(copied.artifact("08_reporting/lockbox_metrics.json").read_text())
    assert metrics["opening"] == records[2]
    assert records[3]["sharpe"] == metrics["agent"]["sharpe"]
    folds = json.loads(copied.artifact("05_model_input/folds.json").read_text())
    accounts = pd.read_parquet(copied.artifact("08_reporting/lockbox_accounts.parquet"))
    for _, rows in accounts.groupby("account"):
        assert rows["row"].tolist() == list(range(folds["lockbox"]["start"], folds["lockbox"]["stop"] - 1))
    run = parent_run(copied)
    assert run.data.tags[OPENINGS_TAG] == "2"
    assert run.data.metrics["lockbox.agent.sharpe"] == pytest.approx(metrics["agent"]["sharpe"])
    assert {"lockbox.agent.max_drawdown", "lockbox.buy_and_hold.sharpe"} <= run.data.metrics.keys()
    assert sum(name.startswith("lockbox.") for name in run.data.metrics) <= 18  # with those of the test 120 at most


def test_an_opening_that_fails_is_on_record(copied, monkeypatch):
    seen = []

    def fail(*_):
        seen.append(ledger(copied))
        raise RuntimeError("out of memory")

    monkeypatch.setattr(lockbox, "backtest_folds", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        copied.run("lockbox", params=QUICK)
    assert [record["event"] for record in seen[0]] == ["opened"]  # before anything of it was computed
    (opening,) = seen[0]
    client = MlflowClient(f"sqlite:///{copied.path / 'mlflow.db'}")
    (version,) = client.search_model_versions()
    assert opening["tracked"] == version.tags["sentio.agents"]  # by which a promotion knows the agents
    (entry,) = lockbox.openings(ledger(copied), opening["model"], opening["symbols"], opening)
    assert (entry["this_model"], entry["finished"], entry["sharpe"]) == (True, False, None)
    monkeypatch.undo()
    copied.run("lockbox", params=QUICK)  # the same agents: it goes on with that opening
    assert ledger(copied)[0] == opening
    assert [(record["event"], record["opening"]) for record in ledger(copied)[1:]] == [("result", opening["opening"])]


def test_an_opening_is_told_in_every_environment_on_these_bars(copied):
    copied.run("lockbox", params=QUICK)
    other = copied.path / "conf" / "other"
    shutil.copytree(copied.path / "conf" / "smoke", other)
    (other / "globals.yml").write_text("artifacts: data/other\nexperiment: sentio_kedro_smoke\n")
    shutil.copytree(copied.path / "data" / "smoke", copied.path / "data" / "other")
    elsewhere = replace(copied, env="other")
    elsewhere.run("reporting", to_nodes=["reporting.measure"])
    skill = json.loads(elsewhere.artifact("08_reporting/metrics.json").read_text())["skill"]
    assert len(skill["lockbox_openings"]) == 1
    assert any("has been opened once" in reason for reason in skill["reasons"])


def test_agents_that_do_not_fit_open_nothing(copied):
    with pytest.raises(StaleArtifactsError, match=r"`training.gamma` was 0.9, is now 0.8"):
        copied.run("lockbox", params={"training": {"gamma": 0.8}})
    with pytest.raises(StaleArtifactsError, match=r"`cross_validation.lockbox` was 0.15, is now 0.1"):
        copied.run("lockbox", params={"cross_validation": {"lockbox": 0.1}})
    assert ledger(copied) == []


def test_no_part_of_the_pipeline_looks_without_the_record(finished):
    catalog = finished.catalog()
    for name in ("trade_lockbox", "measure_lockbox"):
        assert "lockbox_opening" in create_pipeline().only_nodes(name).inputs()
    assert "lockbox_opening" not in catalog.keys()


@pytest.fixture(scope="module")
def absurd(finished, tmp_path_factory):
    """The finished project whose prices in the lockbox are ten times as high, up to its regimes."""
    changed = finished.copy(tmp_path_factory.mktemp("absurd"))
    path = changed.path / "data" / "01_raw" / "equities_daily.parquet"
    bars = pd.read_parquet(path)
    locked = json.loads(changed.artifact("05_model_input/folds.json").read_text())["lockbox"]
    later = bars["timestamp"] >= pd.Timestamp(locked["first"])
    assert 0.1 < later.mean() < 0.2
    for name in ("open", "high", "low", "close"):
        bars[name] = bars[name].where(~later, 10.0 * bars[name])
    bars.to_parquet(path)
    changed.run("ingestion", "features", "cross_validation", "regimes")
    return changed


def assert_same(one, two, name=""):
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, two, err_msg=name)
    elif hasattr(one, "__dataclass_fields__"):
        for field in (field for field in fields(one) if field.compare):  # caches are none of them
            assert_same(getattr(one, field.name), getattr(two, field.name), f"{name}.{field.name}")
    else:
        assert one == two, name


def test_absurd_bars_in_the_lockbox_change_nothing_before_it(finished, absurd):
    before, after = finished.catalog(), absurd.catalog()
    assert before.load("data_quality")["bars_hash"] != after.load("data_quality")["bars_hash"]
    folds = before.load("folds")
    assert after.load("folds") == folds
    one, two = (catalog.load("regime_models") for catalog in (before, after))
    assert {fold: model.to_dict() for fold, model in one.items()} == {fold: two[fold].to_dict() for fold in two}
    start = pd.Timestamp(folds.lockbox_dates["first"])
    for name in ("02_intermediate/aligned_bars", "04_feature/features", "05_model_input/regime_posteriors"):
        one, two = (pd.read_parquet(project.artifact(f"{name}.parquet")) for project in (finished, absurd))
        assert not two.equals(one), name
        pd.testing.assert_frame_equal(two[two["timestamp"] < start], one[one["timestamp"] < start])


def walked(project, pipeline):
    """Run a pipeline without the hooks that would refuse to mix these bars with agents of others."""
    catalog = project.catalog()
    SequentialRunner().run(pipeline, catalog)
    return catalog


def test_absurd_bars_in_the_lockbox_reach_no_training_set(finished, absurd):
    prepare = register_pipelines()["training"].only_nodes("training.prepare_training_sets")
    before, after = (walked(project, prepare).load("training_sets") for project in (finished, absurd))
    assert len(before) == 2
    for one, two in zip(before, after, strict=True):
        assert_same(one, two)


def test_absurd_bars_in_the_lockbox_change_no_figure_of_backtest_and_report(finished, absurd, monkeypatch):
    seen = []

    def watched(function):
        def watching(bars, *rest):
            seen.append(len(bars.timestamps))
            return function(bars, *rest)

        return watching

    monkeypatch.setattr(backtest_nodes, "backtest_folds", watched(backtest_nodes.backtest_folds))
    pipelines = register_pipelines()
    folds = walked(absurd, pipelines["backtest"] + pipelines["reporting"]).load("folds")
    assert seen == [folds.lockbox.start]  # not even causal columns of those bars
    compared = set()
    for layer in ("07_model_output", "08_reporting"):
        for path in finished.artifact(layer).iterdir():
            if path.name != "report.html":  # it names the hash of the bars and what is odd about them
                assert absurd.artifact(layer).joinpath(path.name).read_bytes() == path.read_bytes(), path.name
                compared.add(path.stem)
    assert {"accounts", "positions", "robustness", "metrics", "equity"} <= compared
    assert figures_of(absurd) == figures_of(finished)


def figures_of(project):
    page = project.artifact("08_reporting/report.html").read_text()
    return re.findall(r'<script type="application/json" id="data-(\w+)">(.*?)</script>', page, re.S)
