"""A repeat, other seeds and a smoke run add no trial; other parameters or code add one; nothing is unlearnt."""

from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import ReportingParameters
from sentio_kedro.config.evaluation import TrialParameters
from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.manifests import agents_identity, flatten_parameters
from sentio_kedro.pipelines.reporting import nodes
from sentio_kedro.tracking.trials import agents_origin, external_origin, learner_hash, shaping_parameters, universe_of

COLUMNS = {"columns": [{"name": "r", "indicator": "log_return"}]}
SECTIONS: dict[str, Any] = {
    name: {}
    for name in ("ingestion", "cross_validation", "regimes", "trading", "network", "training", "backtest", "reporting")
} | {"features": COLUMNS}
QUALITY = {"per_symbol": {"BTC": {}, "ETH": {}}, "bar_minutes": 30.0, "bars_hash": "bars"}
NOTHING: Any = None
FACTS: Any = SimpleNamespace(periods_per_year=17_520.0)
FOLDS: Any = SimpleNamespace(lockbox_dates={"first": "2021-01-01T00:00:00Z", "last": "2021-02-01T00:00:00Z"})


def agents(code: str = "code") -> Any:
    return {"fold_0/seed_0": SimpleNamespace(spec=SimpleNamespace(hashes={"learner": code}))}


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Enters a run into one ledger and says how many trials there are."""
    times = pd.date_range("2020-01-01", periods=50, freq="30min", tz="UTC")
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        nodes, "trial_returns", lambda frames: pd.DataFrame({"timestamp": times, "return": rng.normal(0.0, 0.01, 50)})
    )

    def one(code="code", kept=True, quality=QUALITY, **changed):
        sections = SECTIONS | {name: SECTIONS[name] | values for name, values in changed.items()}
        reporting = ReportingParameters(trials=TrialParameters(record=kept))
        ledger = TrialLedger(tmp_path)
        origin = nodes.describe_agents(agents(code), quality, sections)
        return nodes.record_trial(NOTHING, FACTS, origin, quality, FOLDS, ledger, reporting).count

    return one


def test_a_repeat_adds_none(record):
    assert [record(), record(), record()] == [1, 1, 1]


def test_other_seeds_and_what_shapes_nothing_add_none(record):
    record()
    assert record(training={"seeds": 5}) == 1
    assert record(training={"seed": 7}) == 1
    assert record(training={"workers": 3}, backtest={"momentum_bars": 9}, reporting={"seed": 4}) == 1


def test_other_parameters_or_code_add_one_each(record):
    record()
    assert record(network={"width": 32}) == 2
    assert record(training={"gamma": 0.5}) == 3
    assert record(trading={"max_drawdown": 0.2}) == 4
    assert record(regimes={"states": 2}) == 5
    assert record(features={"columns": [{"name": "r", "indicator": "log_return", "bars": 4}]}) == 6
    assert record(cross_validation={"folds": 2}) == 7
    assert record(code="other") == 8
    assert record() == 8


def test_another_bar_or_a_dropped_coin_starts_no_new_count_and_other_symbols_do(record):
    record()
    assert record(quality=QUALITY | {"bar_minutes": 60.0}) == 2
    assert record(quality=QUALITY | {"per_symbol": {"BTC": {}}}) == 3
    assert record(quality=QUALITY | {"per_symbol": {"SOL": {}}}) == 1


def test_a_smoke_run_adds_none_but_knows_the_others(record):
    record()
    assert record(kept=False, network={"width": 32}) == 2
    assert record() == 1


def test_agents_name_the_code_that_trained_them():
    flat = flatten_parameters(SECTIONS)
    assert agents_origin("bars", flat, agents("x")) == (shaping_parameters(flat), "x", agents_identity("bars", flat))


def test_an_external_agent_brings_its_own_parameters_and_code(finished):
    folder = next((finished.path / "data/smoke/06_models/agents").glob("*/*"))
    flat = flatten_parameters(SECTIONS | {"external_test": {"agent": str(folder)}})
    agent = AgentBundle.load(folder)
    origin = external_origin("bars", flat, agent)
    assert {"agent", "features", "network", "trading"} <= origin.parameters.keys()
    assert origin.code == learner_hash()
    assert external_origin("bars", {**flat, "network.width": 99}, agent) == origin
    assert origin.identity != agents_identity("bars", flat)


def test_the_universe_is_symbols_and_length_of_a_bar():
    assert universe_of(QUALITY) == "BTC ETH / 30 min"


def test_deleting_the_mlflow_run_unlearns_no_trial(finished, tmp_path):
    project = finished.copy(tmp_path)
    kept = {"reporting": {"trials": {"record": True}}}
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert not (project.path / "data" / "registry" / "trials.jsonl").exists()  # the smoke run was no trial
    project.run("reporting", params=kept, to_nodes=["reporting.measure"])
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    (run,) = [run for run in mlflow.search_runs(output_format="list", search_all_experiments=True)
              if "sentio.trial_identity" in run.data.tags]  # fmt: skip
    assert run.data.metrics["out_of_sample.agent.trials"] == 1.0
    assert {"out_of_sample.agent.deflated_sharpe", "out_of_sample.agent.spa_p"} <= run.data.metrics.keys()
    mlflow.delete_run(run.info.run_id)
    mlflow.set_tracking_uri(before)
    ledger = TrialLedger(project.path / "data" / "registry")
    (record,) = ledger.records()
    assert (record["run"], record["identity"]) == (run.info.run_id, run.data.tags["sentio.trial_identity"])
    assert len(ledger.returns(record["returns"])) == record["bars"]
    ledger.append({**record, "identity": "another"})
    project.run("reporting", params=kept, to_nodes=["reporting.measure"])
    assert project.catalog()["metrics"].load()["skill"]["trials"] == 2
