"""What accounts do, by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.combinatorial import combinatorial_run

from sentio_kedro.evaluation.measures.accounts import ledger_tables, split_paths
from sentio_kedro.evaluation.measures.behaviour import (
    behaviour_metrics,
    closed_by_a_fold,
    exit_metrics,
    holding_metrics,
    market_metrics,
)
from sentio_kedro.evaluation.run_frames import COLUMNS, RunFacts, RunFrames

MakeRun = Callable[..., RunFrames]


def trips(*rows: tuple[int, int], account: str = "ensemble", forced: bool = False) -> pd.DataFrame:
    """Round trips from entry to exit row that return a percent each."""
    frame = pd.DataFrame(rows, columns=["entry_row", "exit_row"])
    bars = frame["exit_row"] - frame["entry_row"]
    return frame.assign(account=account, fold=frame["entry_row"] // 100, bars=bars, forced=forced, **{"return": 0.01})


def index_of(*segments: tuple[int, int, int]) -> pd.MultiIndex:
    rows = [(fold, row) for fold, start, stop in segments for row in range(start, stop)]
    return pd.MultiIndex.from_tuples(rows, names=["fold", "row"])


def test_a_position_that_never_changes_is_static_and_one_that_moves_with_returns_is_timing() -> None:
    columns = list(COLUMNS["holdings"])
    kept = ("kept", 0, "A", 100, 0.5, 0.2, 0.1, 1)  # half of an asset that rises by 20 % in sum
    sides = [("sides", 0, "A", 100, 0.5, 0.2, 0.1, 1), ("sides", 1, "A", 100, -0.5, -0.2, 0.1, 1)]
    timed = ("timed", 0, "A", 100, 0.0, 0.2, 0.3, 50)
    found = holding_metrics(pd.DataFrame([kept, *sides, timed], columns=columns))
    assert found["kept"] == pytest.approx({"changed_decisions": 0.01, "static_return": 0.1, "timing_return": 0.0})
    assert found["sides"] == pytest.approx({"changed_decisions": 0.01, "static_return": 0.2, "timing_return": 0.0})
    assert found["timed"] == pytest.approx({"changed_decisions": 0.5, "static_return": 0.0, "timing_return": 0.3})


def test_trips_that_overlap_count_less_than_one_bet_each() -> None:
    assert exit_metrics(trips((0, 10), (10, 30)))["effective_bets"] == pytest.approx(2.0)
    assert exit_metrics(trips((0, 10), (0, 10), (0, 10)))["effective_bets"] == pytest.approx(1.0)
    assert exit_metrics(trips((0, 10), (5, 15)))["effective_bets"] == pytest.approx(2 * (0.5 + 0.25))
    assert exit_metrics(trips((3, 3)))["effective_bets"] == pytest.approx(1.0)  # left inside its bar
    assert exit_metrics(trips())["effective_bets"] == 0.0


def test_a_trip_that_the_end_of_a_fold_closes_is_no_exit_of_its_own() -> None:
    index = index_of((0, 0, 100), (1, 100, 200), (2, 250, 300))
    made = trips((5, 50), (5, 99), (5, 100), (150, 199), (260, 299))
    assert closed_by_a_fold(made, index, "walk_forward").tolist() == [False, False, True, True, True]
    late = closed_by_a_fold(made.assign(exit_row=[101, 102, 100, 199, 299]), index, "walk_forward", latency=2)
    assert late.tolist() == [False, True, False, True, True]  # orders of the fold before are still under way at 101
    rules = made.assign(account="buy_and_hold")
    assert closed_by_a_fold(rules, index, "walk_forward").tolist() == [False, False, False, True, True]
    afresh = made.assign(fold=[0, 0, 1, 1, 2])
    assert closed_by_a_fold(afresh, index, "k_fold").tolist() == [False, True, False, True, True]


def test_the_profit_that_ends_of_folds_closed_is_told_apart() -> None:
    both = pd.concat([trips((0, 10)), trips((20, 30), (40, 60), (70, 71), forced=True)])
    found = exit_metrics(both)
    assert (found["own_exits"], found["median_holding_bars"]) == (1, 10.0)
    assert found["forced_profit"] == pytest.approx(0.75)
    assert exit_metrics(both.assign(**{"return": -0.01}))["forced_profit"] is None


def test_many_short_trips_do_not_hide_a_side_that_is_kept() -> None:
    found = exit_metrics(trips(*[(n, n + 2) for n in range(0, 200, 2)], (200, 600)))
    assert (found["median_holding_bars"], found["weighted_holding_bars"]) == (2.0, 400.0)
    assert exit_metrics(trips((3, 3)))["weighted_holding_bars"] is None


def test_alpha_is_tested_by_newey_and_wests_standard_error() -> None:
    rng = np.random.default_rng(0)
    market, noise = rng.normal(0.001, 0.01, 400), rng.normal(0.0, 0.01, 400)
    returns = 0.002 + 0.5 * market + noise
    found = market_metrics(returns, market)
    x = np.column_stack([np.ones(400), market])
    inverse, beta = np.linalg.inv(x.T @ x), np.linalg.lstsq(x, returns, rcond=None)[0]
    residual = returns - x @ beta
    scores, lags = x * residual[:, None], int(4 * 4 ** (2 / 9))
    meat = scores.T @ scores
    for lag in range(1, lags + 1):
        gamma = scores[lag:].T @ scores[:-lag]
        meat += (1 - lag / (lags + 1)) * (gamma + gamma.T)
    error = np.sqrt((inverse @ meat @ inverse)[0, 0])
    assert found["alpha_t"] == pytest.approx(beta[0] / error)
    assert found["market_r2"] == pytest.approx(1 - residual.var() / returns.var())
    assert market_metrics(2.0 * market, market) == {"market_r2": 1.0, "alpha_t": None}
    assert market_metrics(np.zeros(400), market) == {"market_r2": None, "alpha_t": None}


def test_every_account_of_a_run_is_measured(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    found = behaviour_metrics(frames, split_paths(ledger_tables(frames)), facts)
    assert set(found) == set(frames.accounts["account"])
    assert found["equal_weight"]["alpha_t"] is None
    costs = frames.accounts[frames.accounts["account"] == "ensemble"]
    gross = costs["price_pnl"].sum() + costs["dividends"].sum()
    agent = found["ensemble"]
    assert agent["static_return"] + agent["timing_return"] == pytest.approx(gross)
    assert agent["changed_decisions"] == pytest.approx((costs["turnover"] > 0.0).mean())
    ended = frames.trades[frames.trades["account"] == "ensemble"]["exit_row"].isin([1_100, 1_600, 2_100, 2_599]).sum()
    assert agent["own_exits"] == 40 - ended


def test_several_paths_give_medians_and_mean_sums(make_run: MakeRun, facts: RunFacts) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 0.01, (4, 120))
    frames = combinatorial_run(lambda name, path: noise[path if name == "seed_0" else 3])
    rows = [("seed_0", fold, "A", 60, 0.5, 0.1, 0.08, 6) for fold in range(6)]
    held = dataclasses.replace(frames, holdings=pd.DataFrame(rows, columns=list(COLUMNS["holdings"])))
    scheme = dataclasses.replace(facts, scheme="combinatorial")
    found = behaviour_metrics(held, split_paths(ledger_tables(held)), scheme)["seed_0"]
    assert found["static_return"] == pytest.approx(6 * 0.05 / 3)
    assert found["timing_return"] == pytest.approx(6 * 0.03 / 3)
    r2 = [np.corrcoef(noise[path], noise[3])[0, 1] ** 2 for path in range(3)]
    assert found["market_r2"] == pytest.approx(np.median(r2))
