"""An agent that abstains is flat in every test, costs its neighbours nothing, and the report says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.agent.awake import awaken

from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import (
    BacktestParameters,
    FeatureColumn,
    NetworkParameters,
    ReportingParameters,
    RobustnessParameters,
    TradingParameters,
)
from sentio_kedro.evaluation.alarms import alarms
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.evaluation.backtest.ledger_frames import Frames
from sentio_kedro.evaluation.measures.breakdowns import generalisation_gap
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.evaluation.report.report import render_report
from sentio_kedro.evaluation.report.verdict import verdict
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Fold, Segment

MakeRun = Callable[..., RunFrames]
NETWORK = NetworkParameters(width=8, heads=2, window=4, convolution=2, hidden=8, quantiles=5)
COLUMNS = [FeatureColumn(name="r", indicator="log_return")]
REGIMES = {"means": [0.0], "deviations": [0.01], "transition": [[1.0]], "stationary": [1.0], "memory": 4}
LIMITS = TradingParameters()
FOLDS = [Fold(0, (), (), (Segment(40, 80),)), Fold(1, (), (), (Segment(80, 119),))]
PARAMETERS = ReportingParameters(bootstrap_samples=20)
CALM = {
    **{"sharpe": 1.0, "max_drawdown": 0.1, "trades": 40, "own_exits": 36, "changed_decisions": 0.3},
    **{"weighted_holding_bars": 9.0, "forced_profit": 0.1, "bars": 2_000, "folds": 4},
}


@cache
def bars() -> AlignedBars:
    close = 100.0 * np.exp(np.cumsum(0.01 * np.random.default_rng(0).standard_normal((120, 1)), axis=0))
    opened = np.vstack([[[100.0]], close[:-1]])
    timestamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(120) * np.timedelta64(30, "m")
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    return AlignedBars(timestamps, ("AAA",), opened, top, bottom, close, np.ones((120, 1)))


def make_agent(fold: int, seed: int, abstains: bool) -> AgentBundle:
    """An untrained agent whose opinion changes from bar to bar."""
    network = build_network(NETWORK, NetworkShape(1, 1, 1, 3), torch.Generator().manual_seed(10 * seed + fold))
    awaken(network, 3)
    with torch.no_grad():
        network.head.policy.weight.mul_(500.0)
        network.encoder.set_scaler(torch.zeros(1), torch.full((1,), 0.01))
    spec = AgentSpec(
        fold=fold, seed=seed, members=1, symbols=["AAA"], periods_per_year=17520.0, gamma=0.9, required_bars=20,
        train_start="2019-01-01T00:00:00+00:00", train_end="2019-06-01T00:00:00+00:00", features=COLUMNS,
        network=NETWORK, trading=LIMITS, regimes=REGIMES, train_sharpe=0.0, validation_sharpe=0.0, hashes={},
        validation_t=0.4, abstains=abstains,
    )  # fmt: skip
    return AgentBundle(spec, (network.state_dict(),))


@cache
def backtested(closed: frozenset[tuple[int, int]]) -> Frames:
    """The backtest of two folds and two seeds of which those in ``closed`` abstain."""
    agents = [make_agent(fold, seed, (fold, seed) in closed) for fold in (0, 1) for seed in (0, 1)]
    stress = RobustnessParameters(cost_multipliers=[0.0, 2.0], latency_bars=[1], start_shares=[0, 0.25], paths=2)
    by_name = {agent.name: agent for agent in agents}
    features = compute_features(bars(), COLUMNS)
    return backtest_folds(bars(), features, FOLDS, by_name, LIMITS, BacktestParameters(robustness=stress), 17520.0)


def part(frame: pd.DataFrame, seed: int, fold: int | None = None) -> pd.DataFrame:
    rows = frame[frame["account"] == f"seed_{seed}"]
    return (rows if fold is None else rows[rows["fold"] == fold]).reset_index(drop=True)


def test_an_agent_that_abstains_in_one_fold_is_flat_there_and_trades_in_the_other() -> None:
    mixed, plain = backtested(frozenset({(1, 0)})), backtested(frozenset())
    assert part(plain["accounts"], 0, 1)["turnover"].sum() > 0.0
    flat = part(mixed["accounts"], 0, 1)
    assert (flat[["turnover", "return", "gross_exposure", "ordered"]].iloc[1:] == 0.0).all(axis=None)
    pd.testing.assert_frame_equal(part(mixed["accounts"], 0, 0), part(plain["accounts"], 0, 0))
    for name in ("accounts", "trades"):
        pd.testing.assert_frame_equal(part(mixed[name], 1), part(plain[name], 1))


def test_the_ensemble_is_the_agents_that_do_not_abstain_if_they_are_the_majority() -> None:
    plain, half = backtested(frozenset()), backtested(frozenset({(1, 0)}))
    flat = half["accounts"].query("account == 'ensemble' and fold == 1")
    assert plain["accounts"].query("account == 'ensemble' and fold == 1")["turnover"].sum() > 0.0
    assert flat["turnover"].iloc[0] > 0.0  # what the fold before has handed over is sold at once
    assert (flat[["turnover", "return", "gross_exposure", "ordered"]].iloc[1:] == 0.0).all(axis=None)
    first = [found["accounts"].query("account == 'ensemble' and fold == 0") for found in (plain, half)]
    pd.testing.assert_frame_equal(*first)


def test_every_stress_test_of_an_ensemble_that_abstains_is_flat() -> None:
    frame = backtested(frozenset({(0, 1), (1, 1)}))["robustness"]
    without, break_even = frame[frame["kind"] == "without"], frame[frame["kind"] == "break_even"]
    assert (without.set_index("value")["turnover"] > 0.0).to_dict() == {0.0: False, 1.0: True}  # who remains decides
    flat = frame[~frame["kind"].isin(["without", "break_even"])]
    assert set(flat["kind"]) == {"cost", "latency", "start", "path"}
    assert (flat[["turnover", "total_return", "max_drawdown"]] == 0.0).all(axis=None)
    assert break_even["value"].isna().all()
    assert (backtested(frozenset())["robustness"].query("kind == 'cost'")["turnover"] > 0.0).all()


def told(make_run: MakeRun, closed: set[tuple[int, int]]) -> RunFrames:
    """The synthetic run if agents of ``closed`` (fold, seed) abstained, and where both do the ensemble."""
    frames = make_run()
    table = frames.agent_table.assign(validation_t=3.0, abstention_threshold=1.0, abstains=False)
    accounts, actions, trades = frames.accounts.copy(), frames.actions.copy(), frames.trades
    flat = {(fold, "ensemble") for fold, seed in closed if (fold, 1 - seed) in closed}
    for fold, seed in closed:
        mine = (table["fold"] == fold) & (table["seed"] == seed)
        table.loc[mine, "validation_t"], table.loc[mine, "abstains"] = 0.42, True
    for fold, name in flat | {(fold, f"seed_{seed}") for fold, seed in closed}:
        rows = (accounts["account"] == name) & (accounts["fold"] == fold)
        money = ["return", "turnover", "price_pnl", "dividends", "commission", "spread", "impact", "borrow"]
        accounts.loc[rows, [*money, "financing", "funding", "shortfall", "ordered", "capped", "projected"]] = 0.0
        counts = (actions["account"] == name) & (actions["fold"] == fold) & (actions["action"] != "0")
        actions.loc[counts, "count"] = 0
    traded = set(accounts.loc[accounts["turnover"] > 0.0, "account"])
    trades = trades[trades["account"].isin(traded)]
    return dataclasses.replace(frames, agent_table=table, accounts=accounts, actions=actions, trades=trades)


EVERY = {(fold, seed) for fold in range(4) for seed in (0, 1)}


@pytest.mark.parametrize("closed", [{(fold, seed) for fold in (1, 2, 3) for seed in (0, 1)}, EVERY])
def test_staying_flat_by_decision_is_no_alarm(make_run: MakeRun, closed: set[tuple[int, int]]) -> None:
    frames = told(make_run, closed)
    assert alarms(frames, CALM) == []
    trading = frames.agent_table.assign(abstains=False)
    assert alarms(dataclasses.replace(frames, agent_table=trading), CALM) != []


def test_an_agent_that_is_stuck_where_its_gate_is_open_is_still_an_alarm(make_run: MakeRun) -> None:
    frames = told(make_run, {(0, 0), (0, 1)})
    actions = frames.actions.copy()
    actions.loc[(actions["fold"] > 0) & (actions["action"] != "+1"), "count"] = 0
    assert alarms(dataclasses.replace(frames, actions=actions), CALM) == [
        "The agent always chose the level '+1': it learnt a constant, not a strategy."
    ]


@pytest.fixture(scope="module", name="metrics")
def metrics_fixture(make_run: MakeRun, facts: RunFacts) -> dict[str, Any]:
    """Metrics of the synthetic run in which one agent of eight abstained."""
    return build_metrics(told(make_run, {(3, 1)}), facts, PARAMETERS)


def gated(metrics: dict[str, Any], validation_t: list[float | None]) -> dict[str, Any]:
    """The metrics if the first agents had this evidence and abstained, and none traded if those are all."""
    folds = [entry | {"abstains": False} for entry in metrics["folds"]]
    for entry, found in zip(folds, validation_t, strict=False):
        entry |= {"abstains": True, "validation_t": found, "abstention_threshold": 1.0}
    trades = 0 if len(validation_t) == len(folds) else metrics["agent"]["trades"]
    return metrics | {"folds": folds, "agent": metrics["agent"] | {"trades": trades}}


@pytest.mark.parametrize(
    ("validation_t", "texts"),
    [
        ([0.42, -0.3], ["closed on 2 of 8 agents, which stayed flat", "was \u22120.30 to 0.42, not above the"]),
        ([0.42, 0.42], ["was 0.42, not above the threshold of 1.00"]),
        ([0.0], ["closed on 1 of 8 agents", "was 0.00, not"]),
        ([None], ["was undefined, not"]),
        ([0.5] * 8, ["closed on all 8 agents", "flat by decision"]),
    ],
)
def test_the_verdict_says_that_the_gate_closed_with_evidence_and_threshold(
    metrics: dict[str, Any], validation_t: list[float | None], texts: list[str]
) -> None:
    found = " ".join(verdict(gated(metrics, validation_t)))
    assert all(text in found for text in texts), found
    assert "never traded" not in found


def test_the_verdict_is_silent_about_a_gate_that_did_not_close(metrics: dict[str, Any]) -> None:
    assert "gate" not in " ".join(verdict(gated(metrics, [])))
    idle = metrics | {"agent": metrics["agent"] | {"trades": 0}, "folds": gated(metrics, [])["folds"]}
    nobody = [seed | {"trades": 0} for seed in metrics["seeds"]]
    assert "It never traded" in " ".join(verdict(idle | {"seeds": nobody}))
    found = " ".join(verdict(idle | {"seeds": [*nobody, nobody[0] | {"trades": 40}]}))
    assert "As one the agents never traded, but 1 of 3 do alone" in found
    assert "It never traded" not in found


def test_folds_tell_the_gate_and_the_gap(metrics: dict[str, Any]) -> None:
    by_agent = {(entry["fold"], entry["seed"]): entry for entry in metrics["folds"]}
    assert (by_agent[3, 1]["validation_t"], by_agent[3, 1]["abstains"]) == (0.42, True)
    assert (by_agent[3, 0]["validation_t"], by_agent[3, 0]["abstains"]) == (3.0, False)
    assert by_agent[3, 1]["abstention_threshold"] == 1.0
    assert by_agent[3, 1]["generalisation_gap"] == pytest.approx(4.3 - 1.4)
    assert metrics["generalisation_gap"] == pytest.approx(4.15 - 1.45)  # train 4 + 0.1 fold, validation 1.5 - 0.1 seed


def test_the_gap_is_the_mean_of_what_is_known() -> None:
    assert generalisation_gap([]) is None
    assert generalisation_gap([{"generalisation_gap": None}]) is None
    assert generalisation_gap([{"generalisation_gap": gap} for gap in (None, 1.0, -0.5)]) == 0.25


def test_the_report_shows_the_gap_as_a_number_and_marks_agents_that_stayed_flat(metrics: dict[str, Any]) -> None:
    page = render_report(metrics, {})
    assert "Generalisation gap: 2.70 (train less validation Sharpe ratio" in page
    assert page.count("<td>0.42 (stayed flat)</td>") == 1
    assert page.count("<td>3.00</td>") >= 7
    assert "Generalisation gap:" not in render_report(metrics | {"generalisation_gap": None}, {})
