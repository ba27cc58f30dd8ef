"""Two variants as the documentation runs them: side by side, compared, promoted, served by alias, rolled back."""

import json
import shutil
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest

MODEL = "sentio_kedro_smoke"
# Gates that a run of seconds or a loaded machine cannot pass.
SWITCHED_OFF = (
    *("min_deflated_sharpe", "max_overfitting", "max_trials", "max_latency_ms", "min_sharpe_gain", "max_drawdown"),
)


@pytest.fixture(scope="module")
def variants(finished, tmp_path_factory):
    """The smoke run and a second variant of it: an environment of its own, the same experiment."""
    project = finished.copy(tmp_path_factory.mktemp("variants"))
    folder = project.path / "conf" / "second"
    shutil.copytree(project.path / "conf" / "smoke", folder)
    (folder / "globals.yml").write_text("artifacts: data/second\nexperiment: sentio_kedro_smoke\n")
    learner = folder / "parameters_training.yml"
    learner.write_text(learner.read_text().replace("variant: enhanced", "variant: maskable"))
    gates = {"promotion": {"latency_calls": 2, "bootstrap_samples": 20}}
    project.env, project.params = "second", gates
    project.run(params={"training": {"total_steps": 64, "validations": 1}})
    return project


def test_each_variant_has_its_artifacts_and_both_are_compared(finished, variants):
    variants.run("comparison", params={"comparison": {"runs": "enhanced maskable", "bootstrap_samples": 20}})
    table = pd.read_csv(variants.artifact("08_reporting/comparison.csv"))
    assert table["variant"].tolist() == ["enhanced", "maskable"]
    assert table["comparable"].all()
    assert np.isfinite(table["sharpe_difference"][1])
    first, second = finished.artifact("08_reporting/metrics.json"), variants.artifact("08_reporting/metrics.json")
    sharpes = [json.loads(path.read_text())["agent"]["sharpe"] for path in (first, second)]
    assert table["agent.sharpe"].tolist() == pytest.approx(sharpes)
    first_copy = variants.path / "data" / "smoke" / "08_reporting" / "metrics.json"
    assert first_copy.read_bytes() == first.read_bytes()


def test_versions_are_tagged_with_their_metrics(variants):
    client = mlflow.MlflowClient(f"sqlite:///{variants.path / 'mlflow.db'}")
    for env, number, variant in (("smoke", "1", "enhanced"), ("second", "2", "maskable")):
        tags = client.get_model_version(MODEL, number).tags
        metrics = json.loads((variants.path / "data" / env / "08_reporting" / "metrics.json").read_text())
        assert tags["sentio.variant"] == variant
        assert float(tags["sentio.sharpe"]) == pytest.approx(metrics["agent"]["sharpe"], rel=1e-3)
        assert {"sentio.agents", "sentio.fold", "sentio.content", "sentio.verdict"} <= tags.keys()
        assert len(tags) <= 12  # the page of the model lists them all beside each version


def test_a_challenger_is_refused_then_promoted_served_by_alias_and_rolled_back(variants):
    client = mlflow.MlflowClient(f"sqlite:///{variants.path / 'mlflow.db'}")
    first, second = replace(variants, env="smoke"), variants
    passing = {"promotion": {**variants.params["promotion"], **dict.fromkeys(SWITCHED_OFF)}}
    first.run("promotion", params=passing)
    second.run("promotion", params={"promotion": {**passing["promotion"], "min_sharpe_gain": 99.0}})
    assert client.get_model_version_by_alias(MODEL, "champion").version == 1
    second.run("promotion", params=passing)
    assert client.get_registered_model(MODEL).aliases == {"champion": 2, "previous": 1, "challenger": 2}
    served = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion").unwrap_python_model()
    assert served is not None
    first.run("rollback")
    assert client.get_registered_model(MODEL).aliases == {"champion": 1, "challenger": 2}
    ledger = (variants.path / "data" / "registry" / "promotions.jsonl").read_text().splitlines()
    assert [json.loads(line)["decision"] for line in ledger] == ["promoted", "refused", "promoted", "rolled_back"]
    comparison = json.loads(ledger[1])["against_champion"]
    assert comparison["bars"] > 500
    assert np.isfinite(comparison["gain"])
    drift = [gate for gate in json.loads(ledger[2])["gates"] if gate["gate"] == "max_drift"]
    assert 0.0 < drift[0]["figure"] < 1.0


def test_a_refused_promotion_fails_the_command_but_not_the_pipeline(variants):
    command = variants.kedro("run", "--env=second", "--pipeline=promotion", "--params=promotion.latency_calls=1")
    assert command.returncode == 1
    assert "Pipeline execution completed successfully" in command.stdout + command.stderr
    assert f"Error: Version 2 of `{MODEL}` was refused:" in command.stderr
    assert "Traceback" not in command.stdout + command.stderr
    record = json.loads(variants.artifact("08_reporting/registry_decision.json").read_text())
    undefined = {gate["gate"] for gate in record["gates"] if gate["figure"] is None}
    assert undefined == {"min_deflated_sharpe", "max_overfitting", "max_trials"}  # smoke runs are no trials
