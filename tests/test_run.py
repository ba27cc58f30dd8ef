"""Runs the project end to end, as its users do, on copies that keep the repository's data as it is."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError
from kedro.runner import ParallelRunner, ThreadRunner
from mlflow.tracking import MlflowClient
from tests.conftest import snapshot

from sentio_kedro.manifests import StaleArtifactsError
from sentio_kedro.tracking.metrics import OF_AGENT, metric_values

KEYS = {
    *("sharpe", "sharpe_low", "sharpe_high", "annual_return", "annual_volatility", "max_drawdown", "win_rate"),
    *("trades", "turnover_per_bar", "cost_share", "seeds", "members", "folds", "bars", "periods_per_year"),
    *("first_bar", "last_bar", "first_timestamp", "last_timestamp"),
}
ACCOUNTS = ("agent", "buy_and_hold", "equal_weight", "momentum", "random")
SEARCHED = {"search_trials", "search_returns", "best_parameters"}
OPENED = {
    *("lockbox_accounts", "lockbox_metrics", "lockbox_result"),
    *("lockbox_openings@append", "lockbox_openings@read", "earlier_openings"),
}
COMPARED = {"comparison", "comparison_table", "comparison_figure"}
PROMOTED = {"gate_verdicts", "registry_decision", "promotions@append", "promotions@read", "earlier_promotions"}
TRADED = {  # by a trader, and the pipeline `live`
    *("live_accounts", "live_trades", "live_decisions", "live_bars", "live_states"),
    *("live_metrics", "live_differences", "live_report", "live_agents", "live_comparison", "live_band"),
}
NOT_LEFT_BEHIND = {
    "bar_store",
    "signals",
    "final_agents",
    "final_signals",
    "checkpoints",
    *SEARCHED,
    *OPENED,
    *COMPARED,
    *PROMOTED,
    *TRADED,
    "trials",
}  # other pipelines' results; deleted once the training is done; smoke runs are no trials
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy"}
AGENTS = "06_models/agents"
QUICK = {"training": {"total_steps": 64, "seeds": 1, "validations": 1}, "cross_validation": {"folds": 1}}


def store(project):
    return MlflowClient(f"sqlite:///{project.path / 'mlflow.db'}")


def runs(project, parent=None):
    """Parent runs of the project's experiment, or the nested runs of one of them."""
    client = store(project)
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def modified(project, *layers):
    root = project.artifact("")
    return {path: path.stat().st_mtime_ns for layer in layers for path in (root / layer).rglob("*") if path.is_file()}


@pytest.fixture
def copied(finished, tmp_path):
    return finished.copy(tmp_path)


class TestFinishedRun:
    def test_every_artifact_of_the_catalog_is_there(self, finished):
        catalog = finished.catalog()
        kept = {
            name
            for name in catalog.keys()
            if not name.startswith(("params:", "parameters", "external_test.")) and hasattr(catalog[name], "_filepath")
        }
        assert {"positions", "agents", "training_curves", "report", "reporting_manifest"} <= kept
        assert [name for name in sorted(kept - NOT_LEFT_BEHIND) if not catalog.exists(name)] == []
        assert not finished.artifact("06_models/checkpoints").exists()

    def test_artifacts_lie_in_the_environments_own_folder(self, finished):
        beside = {path.name for path in (finished.path / "data").iterdir() if path.suffix != ".lock"}
        assert beside == {"01_raw", "smoke"}

    def test_metrics_have_stable_keys_for_agent_and_baselines(self, finished):
        metrics = json.loads(finished.artifact("08_reporting/metrics.json").read_text())
        for account in ACCOUNTS:
            assert set(metrics[account]) >= KEYS, account
            assert metrics[account]["bars"] == metrics["agent"]["bars"]
        agent = metrics["agent"]
        assert (agent["seeds"], agent["members"], agent["folds"]) == (2, 1, 2)
        assert agent["periods_per_year"] == 252

    def test_first_and_last_bar_are_rows_of_the_aligned_grid(self, finished):
        agent = json.loads(finished.artifact("08_reporting/metrics.json").read_text())["agent"]
        grid = pd.read_parquet(finished.artifact("02_intermediate/aligned_bars.parquet"))["timestamp"].unique()
        assert pd.Timestamp(agent["first_timestamp"]) == grid[agent["first_bar"]]
        assert pd.Timestamp(agent["last_timestamp"]) == grid[agent["last_bar"]]

    def test_positions_are_one_row_per_decision_and_symbol(self, finished):
        positions = pd.read_parquet(finished.artifact("07_model_output/positions.parquet"))
        assert {"timestamp", "symbol", "account", "position"} <= set(positions.columns)
        assert not positions.duplicated(["timestamp", "symbol"]).any()
        accounts = pd.read_parquet(finished.artifact("07_model_output/accounts.parquet"))
        judged = accounts[accounts["account"] == "ensemble"].set_index("timestamp")["net_exposure"]
        summed = positions.groupby("timestamp")["position"].sum()
        np.testing.assert_allclose(summed, judged.loc[summed.index], atol=1e-12)

    def test_todays_universe_in_the_past_is_named_in_the_report(self, finished):
        page = finished.artifact("08_reporting/report.html").read_text()
        assert "survivorship-biased universe" in page.lower()
        assert "http" not in page.partition("<script>")[0]

    def test_every_stage_leaves_the_hash_of_the_bars(self, finished):
        quality = json.loads(finished.artifact("02_intermediate/data_quality.json").read_text())
        hashes = {json.loads(path.read_text())["bars_hash"] for path in finished.artifact("").rglob("*_manifest.json")}
        assert hashes == {quality["bars_hash"]}

    def test_one_parent_run_carries_everything(self, finished):
        (parent,) = runs(finished)
        assert parent.info.status == "FINISHED"
        assert parent.data.params["trading.costs.min_commission"] == "1.0"
        assert parent.data.params["trading.costs.impact"] == "1.0"  # from the preset, which no file spells out
        assert parent.data.params["training.total_steps"] == "1024"
        metrics = json.loads(finished.artifact("08_reporting/metrics.json").read_text())
        assert parent.data.metrics["out_of_sample.agent.sharpe"] == pytest.approx(metrics["agent"]["sharpe"])
        assert "out_of_sample.buy_and_hold.max_drawdown" in parent.data.metrics
        assert len(parent.data.metrics) <= 120
        named = {f"agent.{name}" for name in OF_AGENT} & metric_values(metrics).keys()
        assert {f"out_of_sample.{name}" for name in named} <= parent.data.metrics.keys()
        assert "Sharpe ratio" in parent.data.tags["mlflow.note.content"]
        (bars,) = parent.inputs.dataset_inputs
        assert bars.dataset.name == "AAPL, NFLX, daily bars"
        artifacts = finished.path / "mlartifacts"
        names = {path.name for path in artifacts.rglob("*")}
        drawn = {"equity.html", "drawdown.html", "round_trips.html"}
        assert {"report.html", *drawn, "MLmodel", "weights.safetensors"} <= names

    def test_a_nested_run_per_fold_and_seed_has_curves(self, finished):
        (parent,) = runs(finished)
        nested = runs(finished, parent.info.run_id)
        assert {(run.data.tags["fold"], run.data.tags["seed"]) for run in nested} == {
            (fold, seed) for fold in "01" for seed in "01"
        }
        client = store(finished)
        for run in nested:
            assert run.info.status == "FINISHED"
            assert len(client.get_metric_history(run.info.run_id, "member_0.reward")) > 1

    def test_nothing_is_pickled(self, finished):
        for folder in (finished.path / "mlartifacts", finished.artifact("")):
            files = [path for path in folder.rglob("*") if path.is_file()]
            assert files
            assert [path for path in files if path.suffix in PICKLES] == []
            # Protocol 2 and later begin with PROTO; a zip may hold a pickle of torch.
            assert [path for path in files if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05")] == []
            assert [path for path in files if path.read_bytes()[:4] == b"PK\x03\x04"] == []


class TestOnePipelineAlone:
    def test_training_runs_from_artifacts_and_a_parameter_of_the_command_line_reaches_it(self, copied):
        others = ("02_intermediate", "04_feature", "05_model_input", "07_model_output")
        before = modified(copied, *others)
        ran = copied.kedro("run", "--env=smoke", "--pipeline=training", "--params=training.total_steps=192")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert modified(copied, *others) == before
        curves = pd.read_parquet(copied.artifact("06_models/training_curves.parquet"))
        assert 192 <= curves["steps"].max() < 1024
        manifest = json.loads(copied.artifact("06_models/training_manifest.json").read_text())
        assert manifest["parameters"]["training.total_steps"] == 192
        assert sorted(run.data.params["training.total_steps"] for run in runs(copied)) == ["1024", "192"]

    def test_backtest_and_reporting_again_continue_the_same_parent_run_and_give_the_same_bytes(self, copied):
        (before,) = runs(copied)
        report = contents(copied.artifact("08_reporting"))  # of another process, in another folder
        copied.run("backtest", "reporting")
        (after,) = runs(copied)
        assert after.info.run_id == before.info.run_id
        assert after.info.status == "FINISHED"
        assert contents(copied.artifact("08_reporting")) == report

    def test_backtest_after_another_parameter_names_the_pipeline_to_rerun(self, copied):
        before = snapshot(copied.path)
        with pytest.raises(StaleArtifactsError, match=r"kedro run --pipeline training --env smoke") as refused:
            copied.run("backtest", params={"training": {"gamma": 0.8}})
        assert "`training.gamma` was 0.9, is now 0.8" in str(refused.value)
        assert snapshot(copied.path) == before

    def test_a_lost_agent_is_named_by_what_would_decide_with_the_rest(self, copied):
        shutil.rmtree(copied.artifact(AGENTS) / "fold_1" / "seed_0")
        before = snapshot(copied.path)
        for pipeline in ("signals", "backtest", "final", "lockbox"):
            with pytest.raises((StaleArtifactsError, DatasetError), match=r"is not what .* `fold_1/seed_0"):
                copied.run(pipeline)
        assert snapshot(copied.path) == before

    def test_signals_have_a_row_per_symbol(self, copied):
        copied.run("signals")
        signals = pd.read_parquet(copied.artifact("07_model_output/signals.parquet"))
        columns = ["timestamp", "symbol", "target", "shares", "order", "regime", "state_0", "state_1"]
        assert list(signals.columns) == [
            *columns,
            "tail_risk",
            "binding",
            "agents",
            "other_target",
            "start_agrees",
            "untested",
        ]
        assert signals["start_agrees"].notna().all()
        assert list(signals["symbol"]) == ["AAPL", "NFLX"]
        bars = pd.read_parquet(copied.path / "data" / "01_raw" / "equities_daily.parquet")
        newest = bars[bars["symbol"] == "AAPL"].iloc[-1]
        aapl = signals.iloc[0]
        one_share = newest["close"]  # orders are whole shares
        assert aapl["shares"] * newest["close"] == pytest.approx(aapl["target"] * 1_000_000, abs=one_share)
        assert len(runs(copied)) == 1


class TestSearch:
    WANTED: ClassVar = {
        "trials": 2,
        "space": {"training.entropy": {"high": 0.5}}
        | dict.fromkeys(("training.learning_rate", "training.gamma", "network.width")),
    }

    def test_a_trial_is_a_nested_run_of_the_agents_it_varies_and_what_is_trained_stays(self, copied):
        before = modified(copied, "02_intermediate", "04_feature", "05_model_input", "07_model_output")
        agents = contents(copied.artifact(AGENTS))
        copied.run("search", params={"search": self.WANTED})
        (parent,) = runs(copied)
        nested = [run for run in runs(copied, parent.info.run_id) if "trial" in run.data.tags]
        assert sorted(run.data.tags["trial"] for run in nested) == ["0", "1"]
        assert {run.info.status for run in [parent, *nested]} == {"FINISHED"}
        assert all("training.entropy" in run.data.params for run in nested)
        assert contents(copied.artifact(AGENTS)) == agents
        assert modified(copied, "02_intermediate", "04_feature", "05_model_input", "07_model_output") == before
        assert copied.artifact("06_models/training_manifest.json").exists()

    def test_stale_artifacts_are_refused(self, copied):
        wrong = {"search": self.WANTED, "regimes": {"memory": 32}}
        before = snapshot(copied.path)
        with pytest.raises(StaleArtifactsError, match=r"`regimes.memory` was 48, is now 32"):
            copied.run("search", params=wrong)
        assert snapshot(copied.path) == before


class TestKilledRun:
    def test_the_same_command_continues_to_the_same_bytes(self, finished, copied):
        shutil.rmtree(copied.artifact("06_models"))
        kill_at_fourth_update(copied, ["run", "--env=smoke", "--pipeline=training"])
        checkpoints = list(copied.artifact("06_models/checkpoints").rglob("*.safetensors"))
        assert checkpoints
        assert not copied.artifact(AGENTS).exists()
        assert not copied.artifact("06_models/training_manifest.json").exists()
        copied.run("training")
        made, wanted = contents(copied.artifact("06_models")), contents(finished.artifact("06_models"))
        timings, manifest = Path("training_timings.parquet"), Path("training_manifest.json")
        assert made.pop(timings) != wanted.pop(timings)
        records = [json.loads(files.pop(manifest)) for files in (made, wanted)]
        assert [record["artifacts"].pop("training_timings").keys() for record in records] == [{timings.name}] * 2
        assert records[0] == records[1]
        assert made == wanted
        (version,) = store(copied).search_model_versions()  # the agents of the finished run, not registered again
        assert version.tags["sentio.content"] == json.loads(made[Path("logged_model.json")])["content"]
        assert len(store(copied).search_logged_models(["1"])) == 1
        (parent,) = runs(copied)
        assert {run.info.status for run in [parent, *runs(copied, parent.info.run_id)]} == {"FINISHED"}


def kill_at_fourth_update(project, command):
    """Start a training and kill it, without warning, when it has told of its fourth update; every second is saved."""
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "kedro", *command],
        cwd=project.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    said = []
    with process:
        for line in process.stdout:
            said.append(line)
            if "update 4 of" in line:
                break
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "".join(said)


class TestRunners:
    def test_thread_runner_runs_everything(self, project):
        project.run(runner=ThreadRunner(), params=QUICK)
        assert project.artifact("08_reporting/report.html").exists()
        assert project.artifact("08_reporting/reporting_manifest.json").exists()
        assert len(runs(project)) == 1

    def test_parallel_runner_is_refused_in_one_sentence(self, project):
        before = snapshot(project.path)
        with pytest.raises(ValueError, match=r"^ParallelRunner is not supported, .*ThreadRunner`\.$"):
            project.run(runner=ParallelRunner())
        assert snapshot(project.path) == before


class TestRefusals:
    @pytest.mark.parametrize(
        ("wrong", "named"),
        [
            ({"training": {"total_stepz": 5}}, "total_stepz"),
            ({"training": {"total_steps": "many"}}, "total_steps"),
            ({"network": {"heads": 3}}, "must be a multiple of 2 x `network.heads` = 6, was 8"),
            ({"trading": {"levels": [1.0, 2.0]}}, r"must contain 0 \(flat\).*must lie in \[-1, 1\]"),
        ],
    )
    def test_wrong_parameters_stop_before_any_work(self, project, wrong, named):
        before = snapshot(project.path)
        with pytest.raises(Exception, match=f"(?s){named}"):
            project.run(params=wrong)
        assert snapshot(project.path) == before


class TestExternalAgent:
    def test_bars_that_it_was_trained_on_are_refused_with_the_dates(self, finished, external):
        bars = pd.read_parquet(finished.path / "data" / "01_raw" / "equities_daily.parquet")
        external.write_bars(bars[bars["symbol"].isin(["AAPL", "NFLX"])])
        external.run("ingestion")
        spec = json.loads((finished.artifact(AGENTS) / "fold_0" / "seed_0" / "agent.json").read_text())
        with pytest.raises(ValueError, match=f"trained on bars from {spec['train_start'][:10]}") as refused:
            external.run("external_test")
        assert spec["train_end"] in str(refused.value)
        assert not external.artifact("08_reporting/external_test").exists()

    def test_later_bars_are_traded_and_reported_beside_this_projects_own_backtest(self, finished, copied, tmp_path):
        folder = tmp_path / "external"
        shutil.copytree(finished.artifact(AGENTS) / "fold_0" / "seed_1", folder)
        spec = json.loads((folder / "agent.json").read_text())
        raw = copied.path / "data" / "01_raw" / "equities_daily.parquet"
        bars = pd.read_parquet(raw)
        bars[bars["timestamp"] > pd.Timestamp(spec["train_end"])].to_parquet(raw)
        own = copied.artifact("08_reporting/metrics.json").read_bytes()
        copied.params = {"external_test": {"agent": str(folder)}}
        with pytest.raises(ValueError, match=r"`external_test` cannot be in one command with `backtest`"):
            copied.run("backtest", "external_test")
        copied.run("ingestion", "external_test")
        metrics = json.loads(copied.artifact("08_reporting/external_test/metrics.json").read_text())
        assert metrics["agent"]["seeds"] == 1
        assert metrics["agent"]["first_bar"] == spec["required_bars"] - 1
        assert metrics["agent"]["members"] is None
        assert metrics["folds"][0]["train_sharpe"] is None
        model = json.loads(copied.artifact("06_models/logged_model.json").read_text())["model_uri"]
        assert model not in copied.artifact("08_reporting/external_test/report.html").read_text()
        assert copied.artifact("08_reporting/metrics.json").read_bytes() == own
        catalog = copied.catalog()
        saved = [name for name in catalog.keys() if name.startswith("external_test.")]
        assert {"external_test.accounts", "external_test.test_returns"} <= set(saved)
        assert [name for name in saved if not catalog.exists(name)] == []
        assert copied.artifact("08_reporting/external_test/equity.json").exists()
        assert [run.data.tags["sentio.variant"] for run in runs(copied)].count("external") == 1


@pytest.fixture
def external(project, finished, tmp_path):
    """A project without agents of its own that tests one of the finished run's."""
    shutil.copytree(finished.artifact(AGENTS) / "fold_0" / "seed_0", tmp_path / "external")
    project.params = {"external_test": {"agent": str(tmp_path / "external")}}
    return project


def test_combinatorial_folds_run_end_to_end(project):
    scheme = {"scheme": "combinatorial", "groups": 4, "test_groups": 2}
    project.run(params={**QUICK, "cross_validation": scheme})
    metrics = json.loads(project.artifact("08_reporting/metrics.json").read_text())
    assert metrics["agent"]["folds"] == 6
    assert "combinatorial folds" in project.artifact("08_reporting/report.html").read_text().lower()
    assert {path.name for path in project.artifact(AGENTS).glob("fold_*")} == {f"fold_{fold}" for fold in range(6)}
