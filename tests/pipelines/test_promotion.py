"""Versions, aliases, promotion and rollback in a registry of their own."""

import json
import re
from types import SimpleNamespace

import click
import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from tests.pipelines.test_comparison import track_run

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.config import (
    FeatureColumn,
    IngestionParameters,
    PromotionParameters,
    RegistryParameters,
    ReportingParameters,
)
from sentio_kedro.datasets.files import JSONDataset
from sentio_kedro.datasets.json_lines import LedgerDataset
from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.evaluation.comparison.drift import feature_drift
from sentio_kedro.evaluation.skill.trials import make_trial
from sentio_kedro.evaluation.statistics.deflated_sharpe import deflated_sharpe, sharpe_moments
from sentio_kedro.evaluation.statistics.overfitting import backtest_overfitting
from sentio_kedro.hooks.promotion import RefusedPromotions
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Segment, Spans
from sentio_kedro.pipeline_registry import register_pipelines
from sentio_kedro.pipelines.promotion import measures, nodes
from sentio_kedro.pipelines.promotion.pipeline import create_pipeline, create_rollback
from sentio_kedro.pipelines.training import nodes as training
from sentio_kedro.tracking import client as tracking
from sentio_kedro.tracking import registry
from sentio_kedro.tracking.candidates import Candidates, TestedVersion
from sentio_kedro.tracking.runs import StoreError

GOOD = {
    **{"agent.max_drawdown": 0.04, "agent.daily_conditional_value_at_risk": 0.01},
    "agent.turnover_per_year": 20.0,
}


TIMESTAMPS = np.array([], dtype="datetime64[ns]")


class Registry:
    """Registers versions as trainings do, and runs the pipelines on them."""

    def __init__(self, client, folder):
        self.client, self.folder = client, folder
        self.latency, self.drift = [0.0], [0.0]
        self.trials, self.openings = TrialLedger(folder / "trials"), []

    def add(self, number, figures=GOOD, tried=True, **changes):
        run_id = track_run("enhanced", number, **changes)
        with mlflow.start_run(run_id=run_id):
            tracking.log_metrics(figures, prefix="out_of_sample.")
            tracking.log_metrics({"agent.deflated_sharpe": 0.99, "agent.pbo": 0.05}, prefix="out_of_sample.")
            trial = self.trial(number, 0.4)
            tracking.log_tags({"sentio.trial_identity": trial.identity})
            tracking.log_frame(trial.returns, "trial_returns.csv")
        if tried:
            self.trials.append({**trial.record, "run": run_id}, trial.returns)
        if not self.client.search_registered_models():
            self.client.create_registered_model("toy")
        made = self.client.create_model_version("toy", "somewhere", run_id, tags={"sentio.agents": f"agents {number}"})
        self.client.set_registered_model_alias("toy", "challenger", made.version)
        self.record_test(made.version, run_id)
        return str(made.version)

    def trial(self, number, mean):
        times = pd.date_range("2024-01-01", periods=60, freq="D", tz="UTC")
        earned = mean + np.random.default_rng(number).normal(0.0, 1.0, 60)
        returns = pd.DataFrame({"timestamp": times, "return": 0.01 * earned})
        return make_trial({"network.width": number}, "code", "AAA / 1440 min", returns, "test", bars_hash="b")

    def try_others(self, count, mean=0.0):
        for number in range(100, 100 + count):
            trial = self.trial(number, mean)
            self.trials.append({**trial.record, "run": "another"}, trial.returns)

    def open_lockbox(self, agents, earned):
        opening = f"{agents} {len(self.openings)}"
        span = {"symbols": ["AAA"], "first": "2025-01-01T00:00:00Z", "last": "2025-06-01T00:00:00Z"}
        given = {"event": "opened", "opening": opening, "time": opening, "model": f"model {agents}"}
        given |= {"tracked": agents, "agents": [], "bars_hash": "b"}
        self.openings.append({**given, **span})
        if earned is not None:
            self.openings.append({"event": "result", "opening": opening, "time": "now", "total_return": earned})

    def record_test(self, number, run_id):
        with mlflow.start_run(run_id=run_id):
            registry.tag_tested_version("toy", str(number))

    def run(self, pipeline, **changes):
        given = {
            "challenger": "newest",
            "min_common_bars": 10,
            "bootstrap_samples": 20,
            "max_overfitting": None,
            **changes,
        }
        names = ("promotions@append", "promotions@read", "earlier_promotions")
        ledger = {name: LedgerDataset(filepath=str(self.ledger)) for name in names}
        catalog = DataCatalog(
            {
                "params:promotion": MemoryDataset(PromotionParameters(**given)),
                "params:registry": MemoryDataset(RegistryParameters(model="toy")),
                "logged_model": MemoryDataset({"model": "toy", "version": "1"}),
                "trials": MemoryDataset(self.trials, copy_mode="assign"),
                "lockbox_openings@read": MemoryDataset(self.openings),
                "params:reporting": MemoryDataset(ReportingParameters()),
                "aligned_bars": MemoryDataset(SimpleNamespace(rows=lambda rows: None, timestamps=TIMESTAMPS)),
                "folds": MemoryDataset(Folds.of([], Spans(1, 1, 1), TIMESTAMPS)),
                "candidates": MemoryDataset(copy_mode="assign"),
                "registry_decision": JSONDataset(filepath=str(self.folder / "decision.json")),
                "gate_verdicts": MemoryDataset(),
                **ledger,
            }
        )
        SequentialRunner().run(pipeline, catalog)
        return catalog["registry_decision"].load()

    def promote(self, **changes):
        return self.run(create_pipeline(), **changes)

    def roll_back(self):
        return self.run(create_rollback())

    @property
    def ledger(self):
        return self.folder / "registry" / "promotions.jsonl"

    @property
    def aliases(self):
        return registry.aliases("toy")

    def tags(self, number):
        return self.client.get_model_version("toy", number).tags


@pytest.fixture
def toy(store, tmp_path, monkeypatch):
    made = Registry(store, tmp_path)
    monkeypatch.setattr(nodes, "load_agents", lambda model, number: [])
    monkeypatch.setattr(nodes, "load_model", lambda model, number: number)
    monkeypatch.setattr(nodes, "example_bars", lambda agents, bars: bars)
    monkeypatch.setattr(nodes, "decision_latency", lambda served, bars, calls: made.latency[-1])
    monkeypatch.setattr(nodes, "market_drift", lambda agents, bars, newest, lockbox: made.drift[-1])
    return made


def test_the_first_champion_passes_the_absolute_gates_alone(toy):
    number = toy.add(1)
    record = toy.promote()
    assert (record["decision"], record["version"], record["champion"]) == ("promoted", number, None)
    assert toy.aliases == {"champion": number, "challenger": number}
    assert {gate["gate"] for gate in record["gates"]}.isdisjoint({"min_sharpe_gain"})
    assert record["agents"] == "agents 1"
    assert toy.tags(number)["sentio.decision"] == "promoted"
    assert [json.loads(line) for line in toy.ledger.read_text().splitlines()] == [record]


def test_a_challenger_that_fails_a_gate_is_recorded_and_leaves_the_champion(toy):
    first = toy.add(1)
    toy.promote()
    second = toy.add(1, GOOD | {"agent.max_drawdown": 0.125})
    toy.latency.append(1500.0)
    record = toy.promote()
    assert record["decision"] == "refused"
    assert record["reasons"] == [
        "Maximum drawdown is 12.5 %; at most 10 % is required: 2.5 % too much (`promotion.max_drawdown`).",
        "Latency of a decision, 99 % quantile is 1500 ms; at most 1000 ms is required: 500 ms too much "
        "(`promotion.max_latency_ms`).",
    ]
    assert toy.aliases == {"champion": first, "challenger": second}
    assert "12.5 %" in toy.tags(second)["sentio.reasons"]
    assert len(toy.ledger.read_text().splitlines()) == 2


def test_an_undefined_figure_refuses_unless_its_gate_is_off_and_that_is_recorded(toy):
    toy.add(1)  # the only trial: nothing to choose from
    record = toy.promote(max_overfitting=0.2)
    assert record["decision"] == "refused"
    assert "overfitting is undefined" in record["reasons"][0]
    record = toy.promote(max_overfitting=None)
    assert (record["decision"], record["switched_off"]) == ("promoted", ["max_overfitting"])


def test_trials_made_since_the_challenger_was_judged_count_against_it(toy):
    toy.add(1)
    alone = gate(toy.promote(challenger=1, max_drift=0.0), "min_deflated_sharpe")
    assert alone["passed"]
    toy.try_others(30)
    record = toy.promote(max_overfitting=0.2, challenger=1, min_deflated_sharpe=alone["figure"])
    returns = toy.trial(1, 0.4).returns["return"].to_numpy()
    peers = np.stack([toy.trial(number, 0.0).returns["return"].to_numpy() for number in range(100, 130)], axis=1)
    sharpes = [sharpe_moments(one).sharpe for one in (returns, *peers.T)]
    assert gate(record, "min_deflated_sharpe")["figure"] == pytest.approx(
        deflated_sharpe(sharpe_moments(returns), 31, np.std(sharpes, ddof=1))
    )
    assert not gate(record, "min_deflated_sharpe")["passed"]
    expected = backtest_overfitting(np.column_stack([returns, peers]), 16).probability
    assert gate(record, "max_overfitting")["figure"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("opened", "passes"),
    [
        ([], False),
        ([("agents 1", 0.02)], True),
        ([("agents 1", -0.02)], False),
        ([("agents 1", None)], False),  # opened, without a result
        ([("agents 1", None), ("agents 1", 0.02)], True),
        ([("agents 9", 0.01), ("agents 1", 0.02)], False),  # others used it up
        ([("agents 1", 0.02), ("agents 9", 0.01)], True),
        ([("agents 9", 0.01)], False),
        ([("agents 1", None), ("agents 9", 0.02)], False),
    ],
)
def test_on_rows_that_many_trials_touched_the_lockbox_decides(toy, opened, passes):
    toy.add(1)
    toy.try_others(20)
    for agents, earned in opened:
        toy.open_lockbox(agents, earned)
    record = toy.promote(min_deflated_sharpe=None)
    assert gate(record, "max_trials")["figure"] == (1 if passes else 21)
    assert record["decision"] == ("promoted" if passes else "refused")
    assert passes or "earn in the lockbox before other agents open it" in record["reasons"][0]


def test_twenty_trials_on_the_test_rows_are_not_too_many_and_those_on_other_bars_do_not_count(toy):
    toy.add(1)
    toy.try_others(19)
    fresh = toy.trial(900, 0.0).returns.assign(timestamp=lambda frame: frame["timestamp"] - pd.Timedelta(days=90))
    trial = make_trial({"network.width": 900}, "code", "AAA / 1440 min", fresh, "test", bars_hash="b")
    toy.trials.append({**trial.record, "run": "another"}, trial.returns)
    record = toy.promote(min_deflated_sharpe=None)
    assert (gate(record, "max_trials")["figure"], record["decision"]) == (20, "promoted")


def test_a_challenger_whose_trial_the_ledger_does_not_hold_is_refused_with_a_remedy(toy):
    toy.try_others(5)
    toy.add(1, tried=False)
    record = toy.promote()
    assert record["decision"] == "refused"
    assert gate(record, "min_deflated_sharpe")["figure"] is None
    assert "ledger of trials does not hold the run that tested it" in record["reasons"][0]
    assert "`kedro run --pipeline reporting`" in record["reasons"][0]
    toy.trials.append({**toy.trial(1, 0.4).record, "run": "another"})  # the same trial, judged by another run
    assert gate(toy.promote(), "min_deflated_sharpe")["figure"] is None


def gate(record, name):
    return next(one for one in record["gates"] if one["gate"] == name)


def test_a_better_challenger_replaces_the_champion_on_the_same_rows(toy):
    first = toy.add(1)
    toy.promote()
    second = toy.add(1)  # the same returns: no worse
    record = toy.promote()
    assert record["decision"] == "promoted"
    assert record["champion"] == first
    assert record["against_champion"]["bars"] == 60
    assert record["against_champion"]["gain"] == 0.0
    assert toy.aliases == {"champion": second, "previous": first, "challenger": second}
    third = toy.add(3)
    record = toy.promote(min_sharpe_gain=50.0)
    assert record["decision"] == "refused"
    assert "Sharpe ratio beyond the champion's is" in record["reasons"][0]
    assert toy.aliases["champion"] == second
    assert toy.aliases["challenger"] == third


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"bars": 9}, "share only 9 tested bars"), ({"sentio.execution": "cheap"}, "under other costs or execution")],
)
def test_a_challenger_judged_on_other_rows_or_at_other_costs_is_refused(toy, changes, reason):
    toy.add(1)
    toy.promote()
    toy.add(1, **changes)
    record = toy.promote()
    assert record["decision"] == "refused"
    assert reason in record["reasons"][0]
    assert toy.promote(min_sharpe_gain=None)["decision"] == "promoted"


def test_a_champion_that_challenges_itself_stays(toy):
    number = toy.add(1)
    toy.promote()
    record = toy.promote(challenger=int(number))
    assert (record["decision"], record["reasons"]) == ("kept", ["Version 1 is the champion already."])
    assert toy.aliases == {"champion": number, "challenger": number}


def test_rollback_steps_back_once_for_every_promotion_and_is_recorded(toy):
    numbers = []
    for _ in range(3):
        numbers.append(toy.add(1))
        toy.promote()
    first, second, third = numbers
    record = toy.roll_back()
    assert (record["decision"], record["version"], record["restored"]) == ("rolled_back", third, second)
    assert toy.aliases == {"champion": second, "previous": first, "challenger": third}
    assert toy.tags(third)["sentio.decision"] == "rolled_back"
    toy.roll_back()
    assert toy.aliases == {"champion": first, "challenger": third}
    with pytest.raises(StoreError, match="no previous champion, so that there is nothing to roll back to"):
        toy.roll_back()
    decisions = [json.loads(line)["decision"] for line in toy.ledger.read_text().splitlines()]
    assert decisions == ["promoted"] * 3 + ["rolled_back"] * 2


def test_a_rollback_that_was_killed_between_its_aliases_is_finished_and_recorded_once(toy):
    first, second = toy.add(1), toy.add(1)
    for number in (first, second):
        toy.promote(challenger=int(number))
    done = toy.roll_back()
    toy.client.set_registered_model_alias("toy", "previous", first)  # as it was before the second alias moved
    assert toy.roll_back() == done
    assert toy.aliases == {"champion": first, "challenger": second}
    assert [json.loads(line)["decision"] for line in toy.ledger.read_text().splitlines()].count("rolled_back") == 1


def test_rollback_follows_the_history_where_a_version_was_champion_twice(toy):
    first, second, third = toy.add(1), toy.add(1), toy.add(1)
    steps = []
    for number in (first, second, third, first):
        toy.promote(challenger=int(number))
    for _ in range(3):
        toy.roll_back()
        steps.append((toy.aliases["champion"], toy.aliases.get("previous")))
    assert steps == [(third, second), (second, first), (first, None)]
    with pytest.raises(StoreError, match="no previous champion"):
        toy.roll_back()


def test_the_line_of_champions_leaves_out_what_never_took_effect():
    def record(decision, champion, version=None, model="toy", **more):
        return {"decision": decision, "champion": champion, "version": version, "model": model, **more}

    ledger = [record("promoted", None, "1"), record("promoted", "1", "2"), record("promoted", None, "7", model="other")]
    assert registry.line_of_champions(ledger, "toy") == ["1", "2"]
    lost = [*ledger, record("promoted", "2", "3"), record("refused", "2", "4")]
    assert registry.line_of_champions(lost, "toy") == ["1", "2"]
    lost = [*ledger, record("rolled_back", "2", "2", restored="1"), record("promoted", "2", "3")]
    assert registry.line_of_champions(lost, "toy") == ["1", "2", "3"]
    by_hand = [*ledger, record("kept", "5", "5"), record("rolled_back", "5", "5", restored="2")]
    assert registry.line_of_champions(by_hand, "toy") == ["1", "2"]
    assert registry.line_of_champions([], "toy") == []


def test_a_decision_takes_effect_only_once_it_is_in_the_ledger(toy):
    number = toy.add(1)
    record = toy.promote()
    other = record | {"decision": "rolled_back", "restored": number}
    with pytest.raises(StoreError, match="not in the ledger"):
        nodes.apply_decision(other, [record])
    assert toy.aliases["champion"] == number


def test_a_decision_about_a_champion_that_was_replaced_since_does_not_take_effect(toy):
    first = toy.add(1)
    early = toy.promote()
    toy.client.delete_registered_model_alias("toy", "champion")
    nodes.apply_decision(early, [early])  # a killed process is finished
    second = toy.add(1)
    late = toy.promote()
    toy.client.set_registered_model_alias("toy", "champion", first)
    nodes.apply_decision(late, [early, late])
    nodes.apply_decision(late, [early, late])
    assert toy.aliases == {"champion": second, "previous": first, "challenger": second}
    with pytest.raises(StoreError, match="is not the last one on the champion"):
        nodes.apply_decision(early, [early, late])
    other = late | {"version": "9", "champion": first}
    with pytest.raises(StoreError, match=r"made when version 1 of `toy` was champion, and now version 2 is; it does"):
        nodes.apply_decision(other, [early, late, other])
    assert toy.aliases == {"champion": second, "previous": first, "challenger": second}


@pytest.mark.parametrize("decision", ["promoted", "rolled_back"])
def test_a_decision_that_a_failing_store_cut_off_names_the_command_that_finishes_it(toy, monkeypatch, decision):
    first = toy.add(1)
    toy.promote()
    second = toy.add(1)
    if decision == "rolled_back":
        toy.promote()
    work = toy.promote if decision == "promoted" else toy.roll_back

    def broken(*args):
        raise ConnectionError("the line is dead")

    with monkeypatch.context() as cut:
        cut.setattr("mlflow.tracking.MlflowClient.set_registered_model_alias", broken)
        with pytest.raises(StoreError, match="may have taken effect in part: finish it with `kedro run") as failed:
            work()
    pipeline, name = re.search(r"--pipeline (\w+) --nodes ([\w.]+)`", str(failed.value)).groups()
    toy.run(register_pipelines()[pipeline].only_nodes(name))
    assert toy.aliases["champion"] == (second if decision == "promoted" else first)


@pytest.mark.parametrize("decision", ["promoted", "rolled_back"])
def test_a_decision_that_was_killed_before_it_took_effect_is_on_record_once(toy, monkeypatch, decision):
    first = toy.add(1)
    toy.promote()
    second = toy.add(1)
    if decision == "rolled_back":
        toy.promote()
    work = toy.promote if decision == "promoted" else toy.roll_back

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr("mlflow.tracking.MlflowClient.set_registered_model_alias", killed)
        work()
    before = toy.ledger.read_text()
    monkeypatch.setattr(nodes, "_record", lambda *args, make=nodes._record: make(*args) | {"time": "later"})
    record = work()
    assert toy.ledger.read_text() == before
    assert json.loads(before.splitlines()[-1]) == record
    assert toy.aliases["champion"] == (second if decision == "promoted" else first)


def test_the_challenger_is_named_or_refused(toy):
    own, newest = toy.add(1), toy.add(2)

    def called(challenger, logged=None):
        parameters, registered = PromotionParameters(challenger=challenger), RegistryParameters(model="toy")
        return nodes.read_candidates(parameters, registered, logged).challenger.number

    assert called("own", {"model": "toy", "version": own}) == own
    assert called("newest") == newest
    assert called(1) == own
    for logged in (None, {"model": "toy", "version": None}, {"model": "other", "version": own}):
        with pytest.raises(StoreError, match=r"`promotion.challenger: own` names no version"):
            called("own", logged)
    with pytest.raises(StoreError, match="has no version 9"):
        called(9)


def test_an_untested_version_cannot_challenge(toy):
    number = toy.add(1)
    toy.client.set_terminated(toy.client.get_model_version("toy", number).run_id, "FAILED")
    with pytest.raises(StoreError, match=r"The run .* of version 1 of model `toy` is FAILED; let it finish, or"):
        toy.promote()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda client, run_id: client.set_terminated(run_id, "FAILED"), "The run .* of version 1 .* is FAILED; let"),
        (lambda client, run_id: client.delete_run(run_id), "that tested version 1 of model `toy` was deleted from"),
        (lambda client, run_id: client.set_tag(run_id, registry.TESTS_TAG, "toy/7"), "the metrics of toy/7 now"),
    ],
)
def test_a_champion_whose_run_is_lost_refuses_on_record_and_only_the_comparison(toy, harm, reason):
    first, second = toy.add(1), toy.add(2)
    toy.promote(challenger=int(first))
    harm(toy.client, toy.client.get_model_version("toy", first).run_id)
    record = toy.promote()
    assert (record["decision"], record["version"]) == ("refused", second)
    assert re.search(reason, record["reasons"][0])
    assert "promotion.min_sharpe_gain: null" in record["reasons"][0]
    assert toy.promote(challenger=int(second), min_sharpe_gain=None)["decision"] == "promoted"


def test_a_version_is_judged_only_by_a_run_whose_figures_are_its_own(toy):
    first = toy.add(1)
    run_id = toy.client.get_model_version("toy", first).run_id
    second = toy.client.create_model_version("toy", "somewhere", run_id).version  # trained again, not yet judged
    with pytest.raises(StoreError, match=f"Version {second} of model `toy` was not tested out of sample since it was"):
        toy.promote(challenger=int(second))
    toy.record_test(second, run_id)
    with pytest.raises(StoreError, match=f"version {first} of model `toy` holds the metrics of toy/{second} now"):
        toy.promote(challenger=int(first))
    assert toy.promote(challenger=int(second))["decision"] == "promoted"


def test_a_run_that_is_not_tracked_judges_no_version(toy):
    toy.add(1)
    number = toy.client.create_model_version("toy", "somewhere").version
    registry.tag_tested_version("toy", str(number))
    assert registry.TESTED_BY_TAG not in toy.tags(number)


def test_a_new_version_is_not_registered_with_what_an_earlier_one_earned(store, monkeypatch):
    registered = {}
    monkeypatch.setattr(training, "log_model", lambda chosen, seen, content: "somewhere")
    monkeypatch.setattr(training, "agents_content", lambda chosen: "d")
    monkeypatch.setattr(training, "describe_agents", lambda chosen, quality: "")
    monkeypatch.setattr(training, "register", lambda uri, model, tags, words: registered.update(tags) or "2")
    monkeypatch.setattr(training, "challenge", lambda model, number: None)
    agents = {"fold_3/seed_0": SimpleNamespace(spec=SimpleNamespace(fold=3))}
    test_tags = {"sentio.verdict": "skill", "sentio.test_bars": "60", registry.TESTS_TAG: "toy/1"}
    with mlflow.start_run(tags={"sentio.agents": "a", "sentio.code": "c", **test_tags}):
        bars = SimpleNamespace(rows=lambda rows: None)
        training.log_agents(agents, bars, SimpleNamespace(open_bars=slice(None)), {}, RegistryParameters(model="toy"))
    assert registered == {"sentio.agents": "a", "sentio.content": "d", "sentio.fold": "3"}


def test_without_a_registered_model_everything_says_what_to_do(store):
    nothing, toy = RegistryParameters(), RegistryParameters(model="toy")
    with pytest.raises(StoreError, match="No model `toy` is registered in MLflow; `kedro run --pipeline training`"):
        nodes.read_candidates(PromotionParameters(), toy, {})
    with pytest.raises(StoreError, match="No model `toy` is registered"):
        nodes.decide_rollback(toy, [])
    with pytest.raises(StoreError, match=r"`registry.model` is null"):
        nodes.decide_rollback(nothing, [])


def test_registering_makes_a_version_the_challenger_and_a_registry_that_fails_costs_a_warning(
    store, monkeypatch, caplog
):
    with mlflow.start_run(tags={"sentio.variant": "maskable", "sentio.process": "1", "other": "x"}):
        assert tracking.run_tags() == {"sentio.variant": "maskable"}

    def create(uri, model, tags):
        store.create_registered_model(model)
        return store.create_model_version(model, uri, tags=tags)

    monkeypatch.setattr(mlflow, "register_model", create)
    assert registry.register("somewhere", "toy", {"sentio.fold": "3"}) == "1"
    registry.challenge("toy", "1")
    assert registry.aliases("toy") == {"challenger": "1"}
    metrics = {"agent": {"sharpe": 1.25, "max_drawdown": None}, "skill": {"pbo": 0.5, "verdict": "not_shown"}}
    registry.tag_version("toy", "1", registry.metric_tags(metrics))
    tags = store.get_model_version("toy", "1").tags
    assert tags == {"sentio.fold": "3", "sentio.sharpe": "1.25", "sentio.pbo": "0.5", "sentio.verdict": "not_shown"}

    def broken(*args, **kwargs):
        raise ConnectionError("http://me:pa55@registry is gone")

    monkeypatch.setattr(mlflow, "register_model", broken)
    assert registry.register("somewhere", "toy", {}) is None
    assert "goes on untracked" in caplog.text
    assert "pa55" not in caplog.text


@pytest.mark.parametrize(("decision", "fails"), [("refused", True), ("promoted", False), ("kept", False)])
def test_the_command_line_fails_after_a_refusal_and_a_notebook_does_not(decision, fails):
    record = {"decision": decision, "model": "toy", "version": "2", "reasons": ["Too deep.", "Too slow."]}
    catalog = DataCatalog({"registry_decision": MemoryDataset(record)})
    arguments = {"run_params": {}, "pipeline": create_pipeline(), "catalog": catalog}
    RefusedPromotions().after_pipeline_run(**arguments)
    with click.Context(click.Command("run")):
        if fails:
            with pytest.raises(
                click.ClickException, match=r"(?s)Version 2 of `toy` was refused:\n- Too deep.\n- Too slow"
            ):
                RefusedPromotions().after_pipeline_run(**arguments)
        else:
            RefusedPromotions().after_pipeline_run(**arguments)


def test_latency_is_the_quantile_of_the_calls_after_the_warm_up(monkeypatch):
    inputs, clock = [], {"now": 0.0}
    seconds = iter([9.0, 9.0, *(np.arange(1, 101) / 1000.0)])

    class Model:
        def predict(self, context, bars):
            inputs.append(bars)
            clock["now"] += next(seconds)

    monkeypatch.setattr(measures.time, "perf_counter", lambda: clock["now"])
    latency = measures.decision_latency(Model(), "bars", calls=100)
    assert latency == pytest.approx(np.quantile(np.arange(1, 101), 0.99))
    assert inputs == ["bars"] * 102


def test_drift_compares_train_bars_with_the_newest_ones_that_no_training_saw():
    feed = planted_bars(autoregressive_returns(400, 0.1, 0.004, seed=0), "AAA")
    bars = align_bars(feed, IngestionParameters())
    timestamps = pd.DatetimeIndex(bars.timestamps).tz_localize("UTC")
    columns = [FeatureColumn(name="r", indicator="log_return"), FeatureColumn(name="v", indicator="volatility", bars=8)]
    spec = SimpleNamespace(
        symbols=["AAA"], features=columns, train_start=timestamps[20].isoformat(), train_end=timestamps[249].isoformat()
    )
    agents = [SimpleNamespace(spec=spec, name="fold_0/seed_0", inputs=lambda known: compute_features(known, columns))]
    features = compute_features(bars, columns)
    assert measures.market_drift(agents, bars, 100) == feature_drift(features[20:250], features[300:])
    assert measures.market_drift(agents, bars, 1000) == feature_drift(features[20:250], features[250:])
    sealed = Segment(300, 400)
    assert measures.market_drift(agents, bars, 1000, sealed) == feature_drift(features[20:250], features[250:300])
    assert measures.market_drift(agents, bars.rows(slice(0, 250)), 100) is None
    spec.symbols = ["BBB"]
    with pytest.raises(ValueError, match="BBB"):
        measures.market_drift(agents, bars, 100)


def test_the_lockbox_stays_closed_when_the_feed_has_dropped_its_oldest_bars(monkeypatch):
    feed = planted_bars(autoregressive_returns(100, 0.1, 0.004, seed=0), "AAA")
    bars = align_bars(feed, IngestionParameters())
    folds, seen = Folds.of([], Spans(1, 1, 1), bars.timestamps, Segment(60, 90)), {}
    monkeypatch.setattr(nodes, "load_agents", lambda model, number: [])
    monkeypatch.setattr(nodes, "load_model", lambda model, number: number)
    monkeypatch.setattr(nodes, "example_bars", lambda agents, bars: seen.update(example=bars))
    monkeypatch.setattr(nodes, "decision_latency", lambda served, frame, calls: 0.0)
    monkeypatch.setattr(nodes, "market_drift", lambda agents, bars, newest, lockbox: seen.update(lockbox=lockbox))
    challenger = TestedVersion("1", "agents", None)
    newer = bars.rows(slice(20, None))
    nodes.measure(
        Candidates("toy", challenger, SimpleNamespace(metrics={}), None), newer, folds, PromotionParameters(), {}
    )
    assert seen["lockbox"] == Segment(40, 70)
    np.testing.assert_array_equal(seen["example"].timestamps, bars.timestamps[20:60])
