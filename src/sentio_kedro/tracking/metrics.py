"""The metrics that have a name in MLflow, 120 of a run at most; its artifact ``metrics.json`` has all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentio_kedro.manifests import dotted_values

METRICS_FILE = "metrics.json"
"""Artifact of a parent run: the content of ``metrics.json``."""

OF_BASELINES = ("sharpe", "annual_return", "max_drawdown")
OF_LOCKBOX = (*OF_BASELINES, "sharpe_low", "sharpe_high", "turnover_per_year", "trades")
OF_AGENT = (
    *("sharpe", "sharpe_low", "sharpe_high", "sharpe_seed_min", "sharpe_seed_max", "sortino", "calmar"),
    *("annual_return", "annual_volatility", "total_return", "max_drawdown", "drawdown_bars", "information_ratio"),
    *("skew", "kurtosis", "daily_value_at_risk", "daily_conditional_value_at_risk"),
    *("turnover_per_bar", "turnover_per_year", "gross_exposure", "net_exposure", "invested", "traded_bars"),
    *("cost_share", "costs.gross", "costs.costs", "costs.net"),
    *("trades", "win_rate", "payoff", "expectancy", "round_trip_cost", "changed_decisions", "median_holding_bars"),
    *("effective_bets", "market_r2", "alpha_t", "static_return", "timing_return"),
    *("capped_orders", "margin_calls", "bankruptcies", "bars", "periods_per_year", "folds", "seeds", "members"),
    *("trials", "effective_trials", "probabilistic_sharpe", "deflated_sharpe", "expected_maximum_sharpe"),
    *("minimum_track_record_years", "pbo", "spa_p", "iqm.sharpe", "iqm.low", "iqm.high"),
)


def metric_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return every single number of the accounts in ``metrics.json`` by dotted name, such as ``agent.sharpe``.

    The agent's include those of the tests of skill.
    """
    accounts = {name: metrics[name] for name in metrics["baselines"]}
    accounts["agent"] = {**(metrics.get("skill") or {}), **metrics["agent"]}
    flat = {key: leaf for name, values in accounts.items() for key, leaf in dotted_values(name, values).items()}
    return {name: float(value) for name, value in flat.items() if isinstance(value, int | float)}


def chosen_metrics(metrics: Mapping[str, Any], of_agent: tuple[str, ...] = OF_AGENT) -> dict[str, float]:
    """Return the numbers that MLflow gets by name.

    Args:
        metrics: Content of ``metrics.json``.
        of_agent: Names of the agent's.
    """
    of_baselines = OF_BASELINES if of_agent is OF_AGENT else ("sharpe",)
    wanted = [f"agent.{name}" for name in of_agent]
    wanted += [f"{account}.{name}" for account in metrics["baselines"] for name in of_baselines]
    values = metric_values(metrics)
    return {name: values[name] for name in wanted if name in values}
