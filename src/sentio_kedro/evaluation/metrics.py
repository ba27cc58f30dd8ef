"""What each account earned, how sure that is, and how it compares: the content of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.attribution import Tables, cost_share, ledger_sums, regime_figures
from sentio_kedro.evaluation.drawdowns import drawdown_limit, worst_drawdowns
from sentio_kedro.evaluation.findings import alarms
from sentio_kedro.evaluation.frames import (
    LINES,
    SEED_PREFIX,
    RunFacts,
    RunFrames,
    account_table,
    median_seed,
    metric_key,
    row_times,
)
from sentio_kedro.evaluation.limits import mask_shares, order_figures
from sentio_kedro.evaluation.significance import Floats, default_block, percentile_interval, sharpe_samples
from sentio_kedro.evaluation.stress import stress_figures
from sentio_kedro.evaluation.targets import measure_targets
from sentio_kedro.trading.performance import annual_return, annual_volatility, maximum_drawdown, sharpe_ratio

Figures = dict[str, Any]
LEDGER = ("return", "turnover", "gross_exposure", *LINES)
MEASURES = {"sharpe": sharpe_ratio, "annual_return": annual_return, "annual_volatility": annual_volatility}


def build_metrics(frames: RunFrames, facts: RunFacts, parameters: ReportingParameters) -> dict[str, Any]:
    """Judge the agents and the baselines on the out-of-sample rows.

    The agent's figures are medians over seeds, each figure by itself; the best seed is never singled out. Its Sharpe
    interval is the stationary block bootstrap of that median, all accounts resampled with the same rows.

    Args:
        frames: Frames of the run.
        facts: Facts of the run.
        parameters: Bootstrap and confidence.

    Returns:
        What JSON can hold, None where a figure is undefined: ``agent`` and one entry per name in ``baselines`` (see
        ``account_figures`` and ``limits.order_figures`` for the figures; beside them ``sharpe_low``, ``sharpe_high``,
        ``sharpe_seed_min``, ``sharpe_seed_max`` and the span of the rows), ``seeds`` (figures of every agent),
        ``folds`` (of every agent in every fold), ``generalisation_gap`` (train less validation Sharpe ratio, mean over
        ``folds``), ``comparisons`` (difference of Sharpe ratios to each baseline with its interval), ``median_seed``
        (the agent whose ledger and drawdowns stand for all), ``regimes`` (see ``attribution.regime_figures``),
        ``masks`` (see ``limits.mask_shares``), ``drawdown_limit`` and ``drawdowns`` (see ``drawdowns``),
        ``robustness`` (see ``stress.stress_figures``), ``targets``, ``alarms``, ``universe``, ``scheme``,
        ``confidence``, ``periods_per_year`` and ``bootstrap``.
    """
    tables = {name: account_table(frames, name) for name in LEDGER}
    figures = account_figures(tables, frames.trades, facts.periods_per_year)
    for name, found in order_figures(frames).items():
        figures[name] |= found
    metrics = _agent_and_baselines(frames, facts, parameters, tables["return"], figures)
    metrics["seeds"] = [{"seed": _seed_number(name)} | figures[name] for name in frames.seeds]
    metrics["folds"] = fold_figures(frames, tables, facts.periods_per_year)
    metrics["generalisation_gap"] = generalisation_gap(metrics["folds"])
    metrics["median_seed"] = _seed_number(median_seed(frames))
    metrics["regimes"] = regime_figures(frames, tables, facts.periods_per_year)
    metrics["masks"] = mask_shares(frames)
    metrics["drawdown_limit"] = drawdown_limit(frames, facts)
    metrics["drawdowns"] = worst_drawdowns(frames)
    metrics["robustness"] = stress_figures(frames)
    metrics["targets"] = measure_targets(metrics["agent"], frames, facts)
    metrics["alarms"] = alarms(frames, metrics["agent"])
    block = parameters.bootstrap_block or default_block(len(tables["return"]))
    metrics |= {"universe": facts.universe, "scheme": facts.scheme, "confidence": parameters.confidence}
    metrics |= {"periods_per_year": facts.periods_per_year}
    metrics["bootstrap"] = {"samples": parameters.bootstrap_samples, "mean_block_bars": block, "seed": parameters.seed}
    plain: dict[str, Any] = json_ready(metrics)
    return plain


def _agent_and_baselines(
    frames: RunFrames,
    facts: RunFacts,
    parameters: ReportingParameters,
    returns: pd.DataFrame,
    figures: Mapping[str, Figures],
) -> dict[str, Any]:
    """Figures of the median agent and the baselines with their intervals, and the agent compared with each."""
    samples = sharpe_samples(
        returns.to_numpy(dtype=np.float64),
        facts.periods_per_year,
        parameters.bootstrap_samples,
        parameters.bootstrap_block,
        np.random.default_rng(parameters.seed),
    )
    by_account = dict(zip(returns.columns, samples.T, strict=True))
    agent_samples = np.median([by_account[name] for name in frames.seeds], axis=0)
    span = _span(frames, returns, facts)
    agent = _median_figures([figures[name] for name in frames.seeds])
    agent["costs"] = figures[median_seed(frames)]["costs"]  # medians of single lines would not add up
    members = frames.agent_table["members"]
    sharpes = [figures[name]["sharpe"] for name in frames.seeds]
    agent |= _interval(agent_samples, parameters.confidence)
    agent |= {"sharpe_seed_min": min(sharpes), "sharpe_seed_max": max(sharpes)}
    agent |= {"seeds": len(sharpes), "members": int(members.max()) if len(members) else None} | span
    metrics: dict[str, Any] = {"agent": agent, "comparisons": {}}
    metrics["baselines"] = [metric_key(name) for name in frames.baselines]
    for name, key in zip(frames.baselines, metrics["baselines"], strict=True):
        sharpe = figures[name]["sharpe"]
        other = figures[name] | _interval(by_account[name], parameters.confidence)
        other |= {"sharpe_seed_min": sharpe, "sharpe_seed_max": sharpe, "seeds": 1, "members": 1} | span
        metrics[key] = other
        metrics["comparisons"][key] = _comparison(agent, other, agent_samples - by_account[name], parameters.confidence)
    return metrics


def account_figures(tables: Tables, trades: pd.DataFrame, periods_per_year: float) -> dict[str, Figures]:
    """Figures of each account on the rows of ``tables``.

    Args:
        tables: ``LEDGER`` columns of ``accounts`` by name, each with index ``(fold, row)`` and one column per account.
        trades: Round trips; those that were entered on other rows are left out.
        periods_per_year: Bars a year.

    Returns:
        Per account: ``sharpe``, ``annual_return`` (geometric), ``annual_volatility``, ``max_drawdown`` (positive
        fraction, initial capital counts as a peak), ``total_return``; ``turnover_per_bar`` (mean traded notional /
        equity); ``costs`` (see ``attribution.ledger_sums``); ``cost_share`` (sum of all costs / absolute sum of price
        profits and dividends, all as fractions of the equity at each decision: 0.5 says that half of what prices gave
        or took was paid in costs, above 1 that costs outweighed it); ``gross_exposure`` (mean); and of its round trips
        ``trades`` (how many), ``win_rate`` (share with a positive net profit), ``expectancy`` (mean net profit / equity
        at entry), ``trip_cost`` (mean cost / equity at entry), ``payoff`` (mean win / mean loss) and ``holding_bars``
        (mean).
    """
    returns = tables["return"]
    values = torch.from_numpy(returns.to_numpy(dtype=np.float64, copy=True))  # [T, N]
    enough = len(returns) > 1
    measured = {
        name: measure(values, periods_per_year).tolist() if enough else [None] * values.shape[1]
        for name, measure in MEASURES.items()
    }
    measured["max_drawdown"] = maximum_drawdown(values).tolist()
    measured["total_return"] = (torch.prod(1.0 + values.clamp(min=-1.0), dim=0) - 1.0).tolist()
    trades = trades[trades["entry_row"].isin(returns.index.get_level_values("row"))]
    figures = {}
    for index, account in enumerate(returns.columns):
        sums = ledger_sums({line: tables[line][account] for line in LINES})
        figures[account] = {name: values[index] for name, values in measured.items()} | {
            "turnover_per_bar": float(tables["turnover"][account].mean()),
            "cost_share": cost_share(sums),
            "costs": sums,
            "gross_exposure": float(tables["gross_exposure"][account].mean()),
            **round_trip_figures(trades[trades["account"] == account]),
        }
    return figures


def round_trip_figures(trips: pd.DataFrame) -> Figures:
    """Figures of round trips: ``trades win_rate expectancy trip_cost payoff holding_bars``.

    Args:
        trips: Columns ``pnl`` (quote currency), ``return`` (pnl / equity at entry), both net of costs, ``cost`` (all
            costs of the trip / equity at entry) and ``bars``.

    Returns:
        The figures, None where there is nothing to average.
    """
    results = trips["return"]
    wins, losses = results[trips["pnl"] > 0.0], results[trips["pnl"] < 0.0]
    some = len(trips) > 0
    return {
        "trades": len(trips),
        "win_rate": len(wins) / len(trips) if some else None,
        "expectancy": float(results.mean()) if some else None,
        "trip_cost": float(trips["cost"].mean()) if some else None,
        "payoff": float(wins.mean() / -losses.mean()) if len(wins) and len(losses) else None,
        "holding_bars": float(trips["bars"].mean()) if some else None,
    }


def fold_figures(frames: RunFrames, tables: Tables, periods_per_year: float) -> list[Figures]:
    """Figures of every agent in every fold, beside its train and validation Sharpe ratios.

    Args:
        frames: Frames of the run.
        tables: As in ``account_figures``, of all folds.
        periods_per_year: Bars a year.

    Returns:
        One entry per fold and agent: ``fold``, ``seed``, ``bars``, ``first_timestamp``, ``last_timestamp``,
        ``train_sharpe``, ``validation_sharpe``, ``generalisation_gap`` (train less validation), ``evidence`` (t
        statistic on validation rows), ``abstention_threshold`` (None is off), ``abstains`` (whether the agent stayed
        flat since its evidence was not above it) and the figures of ``account_figures``.
    """
    times, fold_of_row = row_times(frames), tables["return"].index.get_level_values("fold")
    before = {
        (int(row["fold"]), int(row["seed"])): _before_the_test(row) for row in frames.agent_table.to_dict("records")
    }
    entries: list[Figures] = []
    for number in sorted(set(fold_of_row)):
        part = {name: table[fold_of_row == number] for name, table in tables.items()}
        figures = account_figures(part, _trades_of_fold(frames.trades, number), periods_per_year)
        rows = part["return"].index.get_level_values("row")
        for name in frames.seeds:
            seed = _seed_number(name)
            entry: Figures = {"fold": number, "seed": seed, "bars": len(rows)}
            entry |= {"first_timestamp": times[rows[0]], "last_timestamp": times[rows[-1]]}
            entries.append(entry | before.get((number, seed), _before_the_test({})) | figures[name])
    return entries


def _before_the_test(row: Mapping[Any, Any]) -> Figures:
    """What was known of an agent before its test, None where its row of ``agent_table`` does not say."""
    names = ("train_sharpe", "validation_sharpe", "evidence", "abstention_threshold")
    known: Figures = {name: json_ready(row.get(name)) for name in names}
    train, validation = known["train_sharpe"], known["validation_sharpe"]
    known["generalisation_gap"] = None if train is None or validation is None else train - validation
    return known | {"abstains": bool(row.get("abstains", False))}


def generalisation_gap(folds: Sequence[Figures]) -> float | None:
    """Train less validation Sharpe ratio, the mean over folds and seeds; None if no agent's is known."""
    gaps = [entry["generalisation_gap"] for entry in folds if entry["generalisation_gap"] is not None]
    return float(np.mean(gaps)) if gaps else None


def json_ready(value: object) -> Any:
    """Turn NumPy and pandas scalars into plain ones and what is not finite into None, however deep."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _trades_of_fold(trades: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Agents' round trips of a fold, where the frame says so: combinatorial folds trade the same rows again."""
    return trades[trades["fold"] == fold] if "fold" in trades.columns else trades


def _seed_number(account: str) -> int:
    return int(account.removeprefix(SEED_PREFIX))


def _median_figures(figures: list[Figures]) -> Figures:
    """Median of each figure over seeds, of the seeds that have it; tables of figures are left out."""
    medians: Figures = {}
    for name in [name for name, value in figures[0].items() if not isinstance(value, dict)]:
        known = [entry[name] for entry in figures if entry[name] is not None]
        medians[name] = float(np.median(known)) if known else None
    return medians


def _interval(samples: Floats, confidence: float) -> Figures:
    low, high = percentile_interval(samples, confidence)
    return {"sharpe_low": low, "sharpe_high": high}


def _comparison(agent: Figures, other: Figures, differences: Floats, confidence: float) -> Figures:
    low, high = percentile_interval(differences, confidence)
    return {
        "sharpe_difference": agent["sharpe"] - other["sharpe"],
        "low": low,
        "high": high,
        "annual_return_difference": agent["annual_return"] - other["annual_return"],
    }


def _span(frames: RunFrames, returns: pd.DataFrame, facts: RunFacts) -> Figures:
    times = row_times(frames)
    return {
        "folds": int(returns.index.get_level_values("fold").nunique()),
        "bars": len(times),
        "periods_per_year": facts.periods_per_year,
        "first_bar": int(times.index[0]),
        "last_bar": int(times.index[-1]),
        "first_timestamp": times.iloc[0],
        "last_timestamp": times.iloc[-1],
    }
