"""The content of metrics.json has stable keys and exact figures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.combinatorial import combinatorial_run

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.measures.accounts import (
    account_metrics,
    ledger_tables,
    median_metrics,
    path_metrics,
    round_trip_metrics,
    split_paths,
)
from sentio_kedro.evaluation.measures.returns import EMPIRICAL, information_ratio
from sentio_kedro.evaluation.metrics import build_metrics, json_ready
from sentio_kedro.evaluation.run_frames import BASELINES, LINES, RunFacts, RunFrames, account_table
from sentio_kedro.evaluation.skill.intervals import account_samples
from sentio_kedro.evaluation.skill.trials import trial_returns
from sentio_kedro.evaluation.statistics.bootstrap import automatic_block

PARAMETERS = ReportingParameters(bootstrap_samples=60)
KEYS = {
    *("sharpe", "sharpe_low", "sharpe_high", "sharpe_seed_min", "sharpe_seed_max", "annual_return"),
    *("annual_volatility", "total_return", "max_drawdown", "win_rate", "trades", "expectancy", "payoff"),
    *("holding_bars", "turnover_per_bar", "gross_exposure", "cost_share", "seeds", "members", "folds", "bars"),
    *("changed_decisions", "static_return", "timing_return", "median_holding_bars", "own_exits", "forced_profit"),
    "weighted_holding_bars",
    *("effective_bets", "market_r2", "alpha_t"),
    *("costs", "round_trip_cost", "ordered", "capped_orders", "projected_orders", "margin_calls", "bankruptcies"),
    *(
        "drawdown_bars",
        "recovery_bars",
        "under_water",
        "turnover_per_year",
        "net_exposure",
        "invested",
        "traded_bars",
        "idle",
        *EMPIRICAL,
    ),
    *("periods_per_year", "first_bar", "last_bar", "first_timestamp", "last_timestamp"),
    "intervals",
}
MakeRun = Callable[..., RunFrames]


def _changed(frames: RunFrames, account: str, **columns: object) -> RunFrames:
    accounts = frames.accounts.copy()
    for name, value in columns.items():
        accounts.loc[accounts["account"] == account, name] = value
    return dataclasses.replace(frames, accounts=accounts)


def test_agent_and_every_baseline_have_the_same_keys(make_run: MakeRun, facts: RunFacts) -> None:
    metrics = build_metrics(make_run(), facts, PARAMETERS)
    for name in ("agent", *BASELINES):
        assert set(metrics[name]) == KEYS, name
    others = {"comparisons", "seeds", "folds", "targets", "alarms", "universe", "scheme", "confidence", "baselines"}
    others |= {
        "added_by_networks",
        "regimes",
        "years",
        "sleeves",
        "paths",
        "symbols",
        "masks",
        "value_at_risk_test",
        "drawdown_limit",
        "drawdowns",
        "robustness",
        "skill",
        "generalisation_gap",
    }
    assert set(metrics) == {"agent", *BASELINES, *others, "periods_per_year", "bootstrap"}


def test_a_table_of_targets_is_judged_beside_the_baselines(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    followed = frames.accounts[frames.accounts["account"] == "momentum"].assign(account="targets")
    frames = dataclasses.replace(frames, accounts=pd.concat([frames.accounts, followed], ignore_index=True))
    metrics = build_metrics(frames, facts, PARAMETERS)
    assert metrics["baselines"] == [*BASELINES, "target_positions"]
    assert metrics["target_positions"]["sharpe"] == metrics["momentum"]["sharpe"]
    assert metrics["comparisons"]["target_positions"] == metrics["comparisons"]["momentum"]
    assert len(metrics["targets"]) == 5


def test_first_and_last_bar_are_rows_of_the_aligned_grid(make_run: MakeRun, facts: RunFacts) -> None:
    agent = build_metrics(make_run(), facts, PARAMETERS)["agent"]
    assert (agent["first_bar"], agent["last_bar"], agent["bars"], agent["folds"]) == (600, 2_599, 2_000, 4)
    assert (agent["first_timestamp"], agent["seeds"], agent["members"]) == ("2018-09-13T12:00:00+00:00", 2, 2)


def test_figures_of_an_account_are_recomputed_by_hand(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    got = build_metrics(frames, facts, PARAMETERS)["momentum"]
    account = frames.accounts[frames.accounts["account"] == "momentum"]
    returns = account["return"].to_numpy()
    round_trips = frames.trades[frames.trades["account"] == "momentum"]
    equity = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    costs = account[["commission", "spread", "impact", "borrow", "financing", "funding"]].sum().sum()
    gross = account["price_pnl"].sum() + account["dividends"].sum()
    expected = {
        "sharpe": returns.mean() / returns.std(ddof=1) * np.sqrt(facts.periods_per_year),
        "annual_return": equity[-1] ** (facts.periods_per_year / 2_000) - 1.0,
        "annual_volatility": returns.std(ddof=1) * np.sqrt(facts.periods_per_year),
        "max_drawdown": (1.0 - equity / np.maximum.accumulate(equity)).max(),
        "total_return": equity[-1] - 1.0,
        "win_rate": (round_trips["pnl"] > 0).mean(),
        "trades": 40,
        "expectancy": round_trips["return"].mean(),
        "turnover_per_bar": account["turnover"].mean(),
        "traded_bars": (account["turnover"] > 0.0).mean(),
        "idle": 0.0,
        "cost_share": costs / abs(gross),
        "round_trip_cost": round_trips["cost"].mean(),
    }
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-9), name
    assert got["sharpe_low"] < got["sharpe"] < got["sharpe_high"]


def test_drawdown_counts_the_initial_capital_as_a_peak(make_run: MakeRun, facts: RunFacts) -> None:
    returns = np.zeros(2_000)
    returns[0] = -0.1
    metrics = build_metrics(_changed(make_run(), "momentum", **{"return": returns}), facts, PARAMETERS)
    assert metrics["momentum"]["max_drawdown"] == pytest.approx(0.1)


@pytest.mark.parametrize(("seeds", "account"), [(1, "seed_0"), (3, "ensemble")])
def test_the_agent_is_the_ensemble_never_a_seed_that_was_chosen(
    make_run: MakeRun, facts: RunFacts, seeds: int, account: str
) -> None:
    frames = make_run(seeds=seeds, drift={"seed_0": 1e-3})
    metrics = build_metrics(frames, facts, PARAMETERS)
    returns = account_table(frames, "return")[account]
    sharpe = returns.mean() / returns.std() * np.sqrt(facts.periods_per_year)
    assert metrics["agent"]["sharpe"] == pytest.approx(sharpe)
    assert metrics["skill"]["tested_sharpe"] == pytest.approx(sharpe)
    assert metrics["agent"]["costs"]["net"] == pytest.approx(returns.sum())
    assert metrics["agent"]["sharpe_seed_max"] == max(entry["sharpe"] for entry in metrics["seeds"])
    if seeds > 1:
        assert metrics["agent"]["sharpe_high"] < metrics["agent"]["sharpe_seed_max"]


@pytest.mark.parametrize(("account", "rings"), [("ensemble", True), ("seed_0", False)])
def test_alarms_are_those_of_the_account_that_is_judged(
    make_run: MakeRun, facts: RunFacts, account: str, rings: bool
) -> None:
    metrics = build_metrics(make_run(drift={account: 5e-3}), facts, PARAMETERS)
    assert any("leak of future data" in alarm for alarm in metrics["alarms"]) is rings


def test_several_agents_without_an_ensemble_are_refused(make_run: MakeRun) -> None:
    frames = make_run()
    alone = frames.accounts[frames.accounts["account"] != "ensemble"]
    with pytest.raises(ValueError, match="`accounts` lacks `ensemble`; run `kedro run --pipeline backtest`"):
        dataclasses.replace(frames, accounts=alone)


def test_no_figure_is_nan_even_when_nobody_trades(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    zero = dict.fromkeys(("return", "turnover", "ordered", "capped", "projected", *LINES), 0.0)
    for name in ("ensemble", "seed_0", "seed_1", "random"):
        frames = _changed(frames, name, **zero)
    frames = dataclasses.replace(frames, trades=frames.trades.iloc[:0], agent_table=frames.agent_table.iloc[:0])
    frames = dataclasses.replace(frames, training_curves=frames.training_curves.iloc[:0])
    metrics = build_metrics(frames, facts, PARAMETERS)
    json.dumps(metrics, allow_nan=False)
    assert metrics["agent"]["win_rate"] is None
    assert metrics["agent"]["cost_share"] is None
    assert metrics["agent"]["sharpe"] == 0.0
    assert "The agent never traded: its metrics say nothing about skill." in metrics["alarms"]


def test_information_ratios_are_those_of_the_ensemble(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run(seeds=3, drift={"seed_1": 5e-4})
    metrics = build_metrics(frames, facts, PARAMETERS)
    table = account_table(frames, "return")
    for name in BASELINES:
        ratio = information_ratio(table["ensemble"].to_numpy(), table[name].to_numpy(), facts.periods_per_year)
        assert metrics["comparisons"][name]["information_ratio"] == pytest.approx(ratio), name
    assert metrics["agent"]["information_ratio"] == metrics["comparisons"]["equal_weight"]["information_ratio"]


def test_comparisons_hold_the_market_in_common(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run(seeds=1)
    hold = frames.accounts.loc[frames.accounts["account"] == "buy_and_hold", "return"].to_numpy()
    metrics = build_metrics(_changed(frames, "seed_0", **{"return": hold + 1e-4}), facts, PARAMETERS)
    difference, agent = metrics["comparisons"]["buy_and_hold"], metrics["agent"]
    assert 0.0 < difference["low"] < difference["sharpe_difference"] < difference["high"]
    assert difference["high"] - difference["low"] < 0.3 * (agent["sharpe_high"] - agent["sharpe_low"])


def test_folds_hold_every_agent_beside_its_train_and_validation_figures(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    folds = build_metrics(frames, facts, PARAMETERS)["folds"]
    assert [(entry["fold"], entry["seed"]) for entry in folds] == [(fold, seed) for fold in range(4) for seed in (0, 1)]
    assert {entry["bars"] for entry in folds} == {500}
    last = folds[-1]
    assert (last["train_sharpe"], last["validation_sharpe"]) == (pytest.approx(4.3), pytest.approx(1.4))
    assert sum(entry["trades"] for entry in folds if entry["seed"] == 0) == 40


def test_baseline_rows_that_no_agent_traded_are_left_out(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    extra = frames.accounts[frames.accounts["account"] == "momentum"].iloc[[-1]].assign(row=2_600, fold=-1)
    longer = dataclasses.replace(frames, accounts=pd.concat([frames.accounts, extra], ignore_index=True))
    assert account_table(longer, "return").equals(account_table(frames, "return"))


def test_rows_that_an_account_lacks_are_refused_by_name(make_run: MakeRun) -> None:
    frames = make_run()
    missing = (frames.accounts["account"] == "momentum") & (frames.accounts["row"] == 700)
    with pytest.raises(ValueError, match=r"same rows.*\{'momentum': 1\}"):
        account_table(dataclasses.replace(frames, accounts=frames.accounts[~missing]), "return")


def test_missing_columns_and_accounts_are_refused_together(make_run: MakeRun) -> None:
    frames = make_run()
    agents = frames.accounts[frames.accounts["account"].str.startswith("seed_")]
    with pytest.raises(ValueError, match=r"`trades` lacks.*'pnl'.*lacks the baselines \['buy_and_hold'"):
        dataclasses.replace(frames, accounts=agents, trades=frames.trades.drop(columns="pnl"))


def test_win_rate_counts_round_trips_and_payoff_stands_beside_it() -> None:
    round_trips = pd.DataFrame({"pnl": [1.0, 1.0, -4.0, 0.0], "return": [0.01, 0.01, -0.04, 0.0], "bars": [1, 2, 3, 6]})
    round_trips["cost"] = [0.001, 0.002, 0.003, 0.002]
    assert round_trip_metrics(round_trips) == pytest.approx(
        {
            "trades": 4,
            "win_rate": 0.5,
            "expectancy": -0.005,
            "round_trip_cost": 0.002,
            "payoff": 0.25,
            "holding_bars": 3.0,
        }
    )


def test_json_ready_replaces_what_json_cannot_hold() -> None:
    value = {"a": np.float64("nan"), "b": [np.int64(1), float("inf")], 3: pd.Timestamp("2020-01-01", tz="UTC")}
    assert json_ready(value) == {"a": None, "b": [1, None], "3": "2020-01-01T00:00:00+00:00"}


def _path_returns(name: str, path: int) -> np.ndarray:
    market = np.random.default_rng(0).normal(0.0, 0.01, 120)
    own = np.random.default_rng(path + 3 * ord(name[-1])).normal(0.0, 0.002, 120)
    return market + own if name not in BASELINES else market


def _leaves(value: object, name: str = "") -> dict[str, object]:
    """Every plain value by where it stands."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, item in items for path, leaf in _leaves(item, f"{name}.{key}").items()}
    return {name: value}


def test_paths_that_are_alike_say_no_more_than_one_of_them(facts: RunFacts) -> None:
    frames = combinatorial_run(lambda name, _: _path_returns(name, 0))
    table = account_table(frames, "return")
    assert len(table) == 3 * 120
    once = frames.accounts.drop_duplicates(["account", "row"]).assign(fold=0)
    every, one = (
        build_metrics(each, dataclasses.replace(facts, scheme=scheme), PARAMETERS)
        for each, scheme in ((frames, "combinatorial"), (dataclasses.replace(frames, accounts=once), "walk_forward"))
    )
    one["agent"]["folds"] = one["momentum"]["folds"] = 6
    for name in ("agent", "momentum", "comparisons", "drawdowns", "bootstrap", "regimes", "years"):
        assert _leaves(every[name]) == pytest.approx(_leaves(one[name])), name
    assert _leaves({**every["skill"], "iqm": None}) == pytest.approx(_leaves({**one["skill"], "iqm": None}))


def test_intervals_have_ten_thousand_samples_of_the_automatic_block_of_the_judged_account(
    make_run: MakeRun, facts: RunFacts
) -> None:
    dependent = np.convolve(np.random.default_rng(0).normal(0.0, 1e-3, 2_019), np.full(20, 0.25), "valid")
    frames = _changed(make_run(seeds=3), "ensemble", **{"return": dependent})
    block = automatic_block(trial_returns(frames)["return"].to_numpy())
    shipped, given = ReportingParameters(), dataclasses.replace(PARAMETERS, bootstrap_block=block)
    assert (shipped.bootstrap_samples, shipped.bootstrap_block) == (10_000, None)
    automatic = build_metrics(frames, facts, PARAMETERS)
    assert automatic["bootstrap"]["mean_block_bars"] == block > 10.0
    assert automatic["agent"]["intervals"] == build_metrics(frames, facts, given)["agent"]["intervals"]
    drawn = account_samples(frames, facts, shipped, account_table(frames, "return"))["ensemble"]
    assert {len(values) for values in drawn.values()} == {10_000}
    alone = build_metrics(frames, facts, dataclasses.replace(PARAMETERS, bootstrap_block=1.0))["agent"]
    wide = automatic["agent"]["sharpe_high"] - automatic["agent"]["sharpe_low"]
    assert wide > 2.0 * (alone["sharpe_high"] - alone["sharpe_low"])  # bars drawn one by one forget their dependence


def test_figures_of_combinatorial_folds_are_medians_over_paths(facts: RunFacts) -> None:
    frames = combinatorial_run(_path_returns, seeds=3)
    metrics = build_metrics(frames, dataclasses.replace(facts, scheme="combinatorial"), PARAMETERS)
    for name in ("sharpe", "total_return", "max_drawdown"):
        by_path = pd.DataFrame(metrics["paths"]["entries"]).set_index("account")[name]
        for seed, found in enumerate(metrics["seeds"]):
            assert found[name] == pytest.approx(by_path[f"seed_{seed}"].median()), (name, seed)
    assert metrics["agent"]["bars"] == 120
    judged = trial_returns(frames)["return"].to_numpy()
    assert metrics["bootstrap"]["mean_block_bars"] == automatic_block(judged)
    assert sum(entry["bars"] for entry in metrics["years"] if entry["account"] == "agent") == 120


def test_round_trips_of_combinatorial_folds_belong_to_the_path_of_their_fold(facts: RunFacts) -> None:
    round_trips = pd.DataFrame(
        {"account": "seed_0", "fold": [0, 0, 1, 2, 0], "entry_row": [1, 40, 2, 3, 5], "pnl": 1.0}
    )
    round_trips = pd.concat(
        [round_trips, pd.DataFrame({"account": ["momentum"], "fold": [0], "entry_row": [9], "pnl": 1.0})]
    )
    round_trips = round_trips.assign(
        **{"return": 0.01, "symbol": "A", "side": 1, "exit_row": 99, "bars": 1, "cost": 0.0}
    )
    frames = combinatorial_run(_path_returns, trades=round_trips)
    tables = split_paths(ledger_tables(frames))
    found = [account_metrics(path, frames.trades, facts.periods_per_year) for path in tables]
    assert [part["seed_0"]["trades"] for part in found] == [3, 1, 1]  # rows 0 to 29: folds 0, 1 and 2
    assert [part["momentum"]["trades"] for part in found] == [1, 1, 1]  # it walks every row once
    assert path_metrics(tables, frames.trades, facts.periods_per_year)["seed_0"]["trades"] == 1


def test_a_figure_that_fewer_than_half_of_the_paths_have_is_not_the_accounts() -> None:
    flat, traded = {"sharpe": 0.0, "sortino": None}, {"sharpe": 2.0, "sortino": 3.0}
    assert median_metrics([flat, flat, traded]) == {"sharpe": 0.0, "sortino": None}
    assert median_metrics([flat, traded, traded]) == {"sharpe": 2.0, "sortino": 3.0}
    assert median_metrics([flat, traded]) == {"sharpe": 1.0, "sortino": 3.0}
    assert median_metrics([flat, flat]) == {"sharpe": 0.0, "sortino": None}


def test_a_drawdown_that_was_not_recovered_took_longer_than_any() -> None:
    def median(*recoveries: int | None) -> float | None:
        return median_metrics([{"recovery_bars": bars, "max_drawdown": 0.1} for bars in recoveries])["recovery_bars"]

    assert [median(5, 9, None), median(5, None, None), median(5, None)] == [9.0, None, None]
    calm = {"recovery_bars": None, "max_drawdown": 0.0}  # nothing to recover
    assert median_metrics([calm, {"recovery_bars": 5, "max_drawdown": 0.1}])["recovery_bars"] == 5.0


def test_an_ensemble_that_never_traded_is_not_judged_by_a_seed_that_did(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run(seeds=3)
    zero = dict.fromkeys(("return", "turnover", "ordered", "capped", "projected", *LINES), 0.0)
    flat = _changed(frames, "ensemble", **zero)
    trades = frames.trades[frames.trades["account"] != "ensemble"]
    metrics = build_metrics(dataclasses.replace(flat, trades=trades), facts, PARAMETERS)
    assert (metrics["agent"]["trades"], metrics["skill"]["verdict"]) == (0, "no_trades")


def test_what_networks_add_is_their_sharpe_ratio_beyond_that_of_the_rule(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    assert build_metrics(frames, facts, PARAMETERS)["added_by_networks"] is None
    one = frames.accounts[frames.accounts["account"] == "seed_0"]
    better = one.assign(account="networks", **{"return": one["return"] + 1e-3})
    accounts = pd.concat([frames.accounts, better, one.assign(account="forecast_rule")], ignore_index=True)
    added = build_metrics(dataclasses.replace(frames, accounts=accounts), facts, PARAMETERS)["added_by_networks"]
    year = facts.periods_per_year**0.5
    assert added["rule_sharpe"] == pytest.approx(one["return"].mean() / one["return"].std() * year)
    assert added["sharpe"] == pytest.approx(better["return"].mean() / better["return"].std() * year)
    assert 0.0 < added["low"] < added["sharpe"] - added["rule_sharpe"] < added["high"]
