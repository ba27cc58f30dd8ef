"""The search as a pipeline: trials in MLflow and in the catalog, continued by typing the same command again."""

import dataclasses
import logging
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from optuna.trial import FixedTrial

from sentio_kedro.config import (
    AgentParameters,
    NetworkParameters,
    SearchParameters,
    SearchRange,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.evaluation.skill.trials import trial_identity
from sentio_kedro.manifests import flatten_parameters
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.pipelines.search import trials as tracked
from sentio_kedro.pipelines.search.entries import CandidateEntries
from sentio_kedro.pipelines.search.nodes import describe_search, warn_of_test_rows
from sentio_kedro.pipelines.search.trials import STATE_TAG, TrackedTrials, best_as_yaml, trial_table
from sentio_kedro.preflight.search import fixed_names
from sentio_kedro.search.study import Proposal, SearchTrial
from sentio_kedro.search.trials import AgentScore, PrunedTrialError, TrialProgress
from sentio_kedro.tracking.trials import learner_hash, shaping_parameters

BASE = AgentParameters(NetworkParameters(), TrainingParameters(), TradingParameters())
TIMESTAMPS = np.array(["2020-01-01T00:30", "2020-01-01T01:00"], dtype="datetime64[ns]")
SCORES = [
    AgentScore(0, seed, 2.0, 1.0 + seed, np.array([7, 8]), TIMESTAMPS, np.array([0.01, -0.02 + seed]))
    for seed in (0, 1)
]
VALUES = {"training.gamma": 0.5, "training.block_bars": 32, "network.width": 8}
FLAT = flatten_parameters(
    {name: {} for name in ("ingestion", "cross_validation", "regimes", "trading", "network", "training")}
    | {"features": {"columns": [{"name": "r", "indicator": "log_return"}]}}
)
FOLDS = [
    Fold(0, (Segment(0, 50),), (Segment(50, 60),), (Segment(60, 80),)),
    Fold(1, (Segment(0, 67),), (Segment(67, 80),), (Segment(80, 100),)),
]
DATA = ("ingestion", "features", "cross_validation", "regimes", "forecasting")
NOT_SEARCHED = dict.fromkeys(("training.entropy", "training.learning_rate", "network.width"))  # as conf/base does
QUICK = {
    "training": {"total_steps": 64, "seeds": 1, "validations": 1, "threads": 1},
    "cross_validation": {"folds": 2},
    "reporting": {"trials": {"record": True}},
    "search": {"trials": 2, "space": {"training.gamma": {"low": 0.5}} | NOT_SEARCHED},
}


@pytest.fixture
def evaluate(tmp_path):
    return TrackedTrials("abc", [], Spans(input=1, reward=1, episode=1), tmp_path / "search", make_entries(tmp_path))


def make_entries(folder, record=True):
    ledger = TrialLedger(folder / "ledger")
    return CandidateEntries(ledger, FLAT, "BTC / 30 min", "bars", "abc", 17_520.0, record=record)


def test_complete_candidates_enter_the_ledger_of_trials(evaluate, monkeypatch, tmp_path):
    ledger = TrialLedger(tmp_path / "ledger")
    outcome(monkeypatch, SCORES)
    run(evaluate, 3)
    (record,) = ledger.records()
    assert (record["study"], record["candidate"], record["kind"]) == ("abc", 3, "validation")
    assert record["periods_per_year"] == 17_520.0
    assert ledger.returns(record["returns"])["return"].tolist() == [0.01, -0.02]  # of the median seed, the lower of two
    as_run = shaping_parameters(flatten_parameters(vars(BASE)) | FLAT)
    assert record["identity"] == trial_identity(as_run, learner_hash(), "BTC / 30 min")
    quiet = make_entries(tmp_path, record=False)
    run(dataclasses.replace(evaluate, entries=quiet), 4)
    quiet.add_incomplete(Proposal(4, VALUES, BASE), 0.5)
    assert len(ledger.records()) == 1


@pytest.mark.parametrize(
    ("error", "latest"),
    [(PrunedTrialError("poor"), 0.5), (FloatingPointError("kl"), None), (FloatingPointError("kl"), np.nan)],
)
def test_incomplete_candidates_enter_the_ledger_before_the_search_goes_on(
    evaluate, monkeypatch, tmp_path, error, latest
):
    monkeypatch.setattr("sentio_kedro.pipelines.search.entries.learner_hash", lambda: "code of that moment")
    outcome(monkeypatch, error)
    other = dataclasses.replace(BASE, training=dataclasses.replace(BASE.training, gamma=0.5))
    progress = TrialProgress(FixedTrial({}))
    progress.latest = latest
    with pytest.raises(type(error)):
        evaluate(Proposal(1, VALUES, other), progress)
    (record,) = TrialLedger(tmp_path / "ledger").records()
    assert (record["study"], record["candidate"], record["returns"]) == ("abc", 1, None)
    assert (record["code"], record["parameters"]["training.gamma"]) == ("code of that moment", 0.5)
    assert record["sharpe"] == (None if latest != 0.5 else pytest.approx(0.5 / np.sqrt(17_520.0)))


def outcome(monkeypatch, result):
    def scored(*_):
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(tracked, "score_candidate", scored)


def run(evaluate, number=0):
    return evaluate(Proposal(number, VALUES, BASE), TrialProgress(FixedTrial({})))


def test_a_trial_is_a_nested_run_with_parameters_scores_and_returns_per_bar(store, evaluate, monkeypatch, tmp_path):
    outcome(monkeypatch, SCORES)
    with mlflow.start_run() as parent:
        assert run(evaluate, 3) == SCORES
    (nested,) = store.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert nested.info.run_name == "trial 3"
    assert nested.info.status == "FINISHED"
    assert nested.data.tags[STATE_TAG] == "complete"
    assert nested.data.params == {name: str(value) for name, value in VALUES.items()}
    assert nested.data.metrics == {"fold_0.validation_sharpe": 1.5, "train_sharpe": 2.0, "validation_sharpe": 1.5}
    (artifact,) = (tmp_path / "artifacts").rglob("validation_returns.csv")
    logged = pd.read_csv(artifact, parse_dates=["timestamp"])
    assert list(logged.columns) == ["fold", "seed", "row", "timestamp", "return"]
    assert logged["return"].tolist() == [0.01, -0.02, 0.01, 0.98]
    kept = evaluate.returns(3)
    assert kept["row"].tolist() == [7, 8, 7, 8]
    assert kept["trial"].tolist() == [3] * 4
    assert kept["seed"].tolist() == [0, 0, 1, 1]
    assert kept["timestamp"].tolist() == logged["timestamp"].tolist() == 2 * list(pd.to_datetime(TIMESTAMPS, utc=True))


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [
        (PrunedTrialError("poor"), "FINISHED", "pruned"),
        (FloatingPointError("kl"), "FAILED", "failed"),
        (OSError("disk"), "FAILED", None),
        (KeyboardInterrupt(), "KILLED", None),
    ],
)
def test_a_trial_that_does_not_end_well_is_closed_and_continued(store, evaluate, monkeypatch, error, status, state):
    with mlflow.start_run() as parent:
        outcome(monkeypatch, error)
        with pytest.raises(type(error)):
            run(evaluate)
        assert mlflow.active_run().info.run_id == parent.info.run_id
        nested = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
        (first,) = store.search_runs([parent.info.experiment_id], nested)
        assert (first.info.status, first.data.tags.get(STATE_TAG)) == (status, state)
        assert not evaluate.folder.exists()
        outcome(monkeypatch, SCORES)
        run(evaluate)
    (second,) = store.search_runs([parent.info.experiment_id], nested)
    assert (second.info.status, second.data.tags[STATE_TAG]) == ("FINISHED", "complete")


def test_without_mlflow_a_trial_is_kept_all_the_same(evaluate, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    outcome(monkeypatch, SCORES)
    run(evaluate)
    assert len(evaluate.returns(0)) == 4
    assert mlflow.active_run() is None
    assert {path.name for path in tmp_path.iterdir()} == {"search", "ledger"}


TRIALS = [
    SearchTrial(0, "complete", VALUES, 1.0, 2.0, {"0": 1.0}, 3.0),
    SearchTrial(1, "pruned", VALUES, 0.5, None, {}, None),
    SearchTrial(2, "complete", VALUES | {"training.gamma": 0.9}, 1.5, 1.75, {"0": 1.5}, 3.0),
    SearchTrial(3, "failed", VALUES, None, None, {}, None),
]


def test_the_table_has_a_row_per_trial():
    table = trial_table(TRIALS)
    assert list(table.columns) == ["trial", "state", "objective", "train_sharpe", "fold_0", "seconds", *VALUES]
    assert table["state"].tolist() == ["complete", "pruned", "complete", "failed"]
    assert table["objective"].tolist()[:3] == [1.0, 0.5, 1.5]
    assert np.isnan(table["objective"][3])


def test_the_best_parameters_are_yaml_that_the_sections_take():
    text = best_as_yaml("abc", TRIALS, [0], "Mind the test rows.")
    assert yaml.safe_load(text) == {
        "training": {"gamma": 0.9, "block_bars": 32},
        "network": {"width": 8},
    }
    assert "trial 2, Sharpe ratio 1.50 on the validation rows of folds [0], 1.75 on train rows" in text
    assert "best of 2 complete trials" in text
    assert "# Mind the test rows.\n" in text
    shown = '# kedro run --params "training.gamma=0.9,training.block_bars=32,network.width=8"\n'
    assert shown in text


def test_what_shaped_earlier_stages_or_shapes_nothing_is_not_searched():
    fixed = fixed_names("bars", FLAT)
    assert fixed["training.workers"] == "it changes how a result is computed, not the result"
    for name in ("network.window", "training.episode_bars"):
        assert fixed[name] == "`cross_validation` was made with it, so change it in conf and run that stage again"
    assert not {"network.width", "training.gamma"} & fixed.keys()


def test_a_study_is_about_bars_folds_and_parameters_that_are_not_searched():
    wanted = SearchParameters(space={"training.gamma": SearchRange(low=0.5, high=0.9)})
    about = describe_search("bars", FLAT, FOLDS[:1], wanted)
    other = {"training.gamma": 0.1, "training.workers": 7}
    assert describe_search("bars", FLAT | other, FOLDS[:1], wanted) == about
    assert describe_search("bars", FLAT, FOLDS[:1], SearchParameters(trials=99, space=wanted.space)) == about
    for changed in (
        describe_search("others", FLAT, FOLDS[:1], wanted),
        describe_search("bars", FLAT, FOLDS, wanted),
        describe_search("bars", FLAT | {"training.entropy": 0.1}, FOLDS[:1], wanted),
        describe_search("bars", FLAT | {"regimes.states": 2}, FOLDS[:1], wanted),
        describe_search("bars", FLAT, FOLDS[:1], SearchParameters(space=wanted.space, seed=1)),
    ):
        assert changed != about


def test_folds_that_cost_others_their_test_rows_are_warned_of(caplog):
    assert warn_of_test_rows(FOLDS, [0]) == ""
    with caplog.at_level(logging.WARNING):
        warning = warn_of_test_rows(FOLDS, [0, 1])
    assert "Test rows of folds [0] are train or validation rows of the searched folds [0, 1]" in warning
    assert "not out of sample" in caplog.text


def test_kedro_run_pipeline_search_leaves_its_artifacts_and_continues(project):
    project.run(*DATA, "search", params=QUICK)
    made = pd.read_csv(project.artifact("06_models/search_trials.csv"))
    assert made["trial"].tolist() == [0, 1]
    assert made["training.gamma"][0] == 0.9
    assert project.artifact("06_models/search/studies.db").exists()
    best = project.artifact("06_models/best_parameters.yml").read_text()
    assert set(yaml.safe_load(best)["training"]) == {"gamma"}
    assert "folds [0]" in best
    assert "not out of sample" not in best
    returns = pd.read_parquet(project.artifact("06_models/search_returns.parquet"))
    first, last = returns["row"].min(), returns["row"].max()
    (fold, *_) = project.catalog()["folds"].load().to_dict()["folds"]
    (validation,) = fold["validation"]
    assert validation["start"] <= first < last < validation["stop"] <= fold["test"][0]["start"]

    ledger = TrialLedger(project.path / "data" / "registry")
    assert [record["candidate"] for record in ledger.records()] == [0, 1]

    more = QUICK | {"search": QUICK["search"] | {"trials": 3}}
    project.run("search", params=more)
    continued = pd.read_csv(project.artifact("06_models/search_trials.csv"))
    pd.testing.assert_frame_equal(continued[:2], made)
    assert len(continued) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"space": {"training.gamma": {"low": 0.9, "high": 0.1}} | NOT_SEARCHED},
            "must be below `high` = 0.1, was 0.9",
        ),
        ({"space": {"training.gama": {"low": 0.1, "high": 0.9}} | NOT_SEARCHED}, "did you mean `training.gamma`"),
        ({"space": {"network.window": {"low": 4, "high": 8}} | NOT_SEARCHED}, "`cross_validation` was made with it"),
        ({"folds": [9]}, r"must name folds among \[0, 1\], had \[9\]"),
    ],
)
def test_a_search_that_makes_no_sense_trains_nothing(searched, wrong, message):
    with pytest.raises(Exception, match=f"(?s){message}"):
        searched.run("search", params=QUICK | {"search": QUICK["search"] | wrong})
    assert not searched.artifact("06_models/search_trials.csv").exists()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def searched(project, prepared):
    """A project whose data stages have run, made once."""
    if not any(prepared.iterdir()):
        project.run(*DATA, params=QUICK)
        shutil.copytree(project.artifact(""), prepared / "data")
    if not project.artifact("").exists():
        shutil.copytree(prepared / "data", project.artifact(""))
    return project
