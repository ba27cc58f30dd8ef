"""Metrics of the accounts by regime, calendar year, symbol and fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.measures.accounts import (
    Metrics,
    account_metrics,
    median_metrics,
    round_trip_metrics,
    split_paths,
)
from sentio_kedro.evaluation.measures.attribution import Tables
from sentio_kedro.evaluation.run_frames import RunFrames, account_table, metric_key, row_times, seed_number

PER_REGIME = (
    *("sharpe", "sortino", "total_return", "conditional_value_at_risk", "gross_exposure", "turnover_per_bar"),
    *("cost_share", "trades", "win_rate"),
)
PER_YEAR = (
    *("sharpe", "sortino", "total_return", "annual_volatility", "max_drawdown", "conditional_value_at_risk"),
    *("information_ratio", "trades", "win_rate", "expectancy", "turnover_per_bar", "gross_exposure", "cost_share"),
)


def regime_metrics(frames: RunFrames, tables: Tables, periods_per_year: float) -> list[Metrics]:
    """Split the result of every account by the regime at the decision.

    Args:
        frames: Frames of the run.
        tables: See ``accounts.ledger_tables``.
        periods_per_year: Bars a year.

    Returns:
        One entry per account and regime, calm to volatile; accounts are ``agent`` (the headline), the baselines and
        every seed: ``account``, ``regime``, ``bars``, ``share`` (of the bars), and the metrics ``PER_REGIME`` of
        those bars, of round trips by the regime at entry. None where undefined. With several backtest paths, medians
        over paths.
    """
    paths = split_paths({**tables, "regime": account_table(frames, "regime")})
    metrics: dict[str, list[Metrics]] = {}
    for account in tables["return"].columns:
        trades = frames.trades[frames.trades["account"] == account]
        columns = [
            {name: table if name == "day" else table[[account]] for name, table in path.items()} for path in paths
        ]
        regimes = [path["regime"][account].to_numpy() for path in columns]
        metrics[account] = [
            _of_rows(columns, [regime == number for regime in regimes], trades, PER_REGIME, periods_per_year)[account]
            for number in range(frames.regimes)
        ]
    return _by_account(frames, metrics, "regime", list(range(frames.regimes)))


def year_metrics(frames: RunFrames, tables: Tables, periods_per_year: float) -> list[Metrics]:
    """Split the result of every account by the calendar year of the decision, UTC.

    Returns:
        As ``regime_metrics``, with ``year`` instead of ``regime`` and the metrics ``PER_YEAR``.
    """
    paths, times = split_paths(tables), row_times(frames)
    year_of_row = pd.Series(pd.DatetimeIndex(times).year, index=times.index)
    years = sorted({int(year) for year in year_of_row})
    by_path = [year_of_row.loc[path["return"].index.get_level_values("row")].to_numpy() for path in paths]
    parts = [
        _of_rows(paths, [rows == year for rows in by_path], frames.trades, PER_YEAR, periods_per_year) for year in years
    ]
    metrics = {account: [part[account] for part in parts] for account in tables["return"].columns}
    return _by_account(frames, metrics, "year", years)


def _of_rows(
    paths: Sequence[Tables],
    inside: Sequence[np.ndarray],
    trades: pd.DataFrame,
    names: Sequence[str],
    periods_per_year: float,
) -> dict[str, Metrics]:
    """Metrics ``names`` of each account on the rows ``inside`` of each path ``[T]``, the median over the paths."""
    parts = [_of_path(path, rows, trades, names, periods_per_year) for path, rows in zip(paths, inside, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return {account: median_metrics([part[account] for part in parts]) for account in parts[0]}


def _of_path(
    tables: Tables, inside: np.ndarray, trades: pd.DataFrame, names: Sequence[str], periods_per_year: float
) -> dict[str, Metrics]:
    """Metrics ``names`` of each account on the rows ``inside`` ``[T]``, with their count and share."""
    bars, accounts = int(inside.sum()), tables["return"].columns
    size = {"bars": bars, "share": bars / len(inside)}
    if bars == 0:
        return {str(account): size | dict.fromkeys(names) for account in accounts}
    part = {name: table[inside] for name, table in tables.items()}
    metrics = account_metrics(part, trades, periods_per_year, contiguous="max_drawdown" in names)
    return {account: size | {name: entry[name] for name in names} for account, entry in metrics.items()}


def _by_account(
    frames: RunFrames, metrics: Mapping[str, list[Metrics]], key: str, labels: Sequence[int]
) -> list[Metrics]:
    """List entries by account, the headline first, each with its label under ``key``."""
    by_account = {"agent": metrics[frames.headline]} | {
        metric_key(name): metrics[name] for name in (*frames.baselines, *frames.seeds)
    }
    return [
        {"account": account, key: label} | entry
        for account, entries in by_account.items()
        for label, entry in zip(labels, entries, strict=True)
    ]


def symbol_metrics(frames: RunFrames) -> list[Metrics]:
    """Positions and round trips of the headline account by symbol.

    Returns:
        One entry per symbol: ``symbol``, ``net_exposure`` and ``gross_exposure`` (means over bars, fractions of
        equity), ``largest`` (largest absolute position), ``invested`` (share of bars with a position), and the
        metrics of ``round_trip_metrics``. Empty without positions.
    """
    round_trips = frames.trades[frames.trades["account"] == frames.headline]
    entries: list[Metrics] = []
    for symbol, positions in frames.positions.groupby("symbol", sort=True)["position"]:
        size = positions.abs()
        entry: Metrics = {"symbol": str(symbol), "net_exposure": float(positions.mean())}
        entry |= {"gross_exposure": float(size.mean()), "largest": float(size.max())}
        entry["invested"] = float((size > 0.0).mean())
        entries.append(entry | round_trip_metrics(round_trips[round_trips["symbol"] == symbol]))
    return entries


def fold_metrics(frames: RunFrames, tables: Tables, periods_per_year: float) -> list[Metrics]:
    """Metrics of every agent in every fold, with its train and validation Sharpe ratios.

    Args:
        frames: Frames of the run.
        tables: See ``accounts.ledger_tables``.
        periods_per_year: Bars a year.

    Returns:
        One entry per fold and agent: ``fold``, ``seed``, ``bars``, ``first_timestamp``, ``last_timestamp``,
        ``train_sharpe``, ``validation_sharpe``, ``generalisation_gap`` (train less validation), ``validation_t`` (t
        statistic of the validation returns), ``abstention_threshold`` (None is off), ``abstains`` (whether the t
        statistic is not above it), ``rule_sharpe`` (of the rule on the validation rows, which it then follows; None
        without a rule) and the metrics of ``account_metrics``.
    """
    times, fold_of_row = row_times(frames), tables["return"].index.get_level_values("fold")
    training = {(int(row["fold"]), int(row["seed"])): row for row in frames.agent_table.to_dict("records")}
    entries: list[Metrics] = []
    for fold in sorted(set(fold_of_row)):
        part = {name: table[fold_of_row == fold] for name, table in tables.items()}
        metrics = account_metrics(part, frames.trades, periods_per_year)
        rows = part["return"].index.get_level_values("row")
        for name in frames.seeds:
            seed = seed_number(name)
            entry: Metrics = {"fold": fold, "seed": seed, "bars": len(rows)}
            entry |= {"first_timestamp": times[rows[0]], "last_timestamp": times[rows[-1]]}
            entries.append(entry | _training_metrics(training.get((fold, seed), {})) | metrics[name])
    return entries


def _training_metrics(row: Mapping[Any, Any]) -> Metrics:
    """Train and validation metrics from a row of ``agent_table``; None where undefined, as for an agent without row."""
    names = ("train_sharpe", "validation_sharpe", "validation_t", "abstention_threshold", "rule_sharpe")
    entry: Metrics = {name: float(row[name]) if row and np.isfinite(row[name]) else None for name in names}
    train, validation = entry["train_sharpe"], entry["validation_sharpe"]
    entry["generalisation_gap"] = None if train is None or validation is None else train - validation
    return entry | {"abstains": bool(row) and bool(row["abstains"])}


def generalisation_gap(folds: Sequence[Metrics]) -> float | None:
    """Train less validation Sharpe ratio, the mean over folds and seeds; None if no agent has one."""
    gaps = [entry["generalisation_gap"] for entry in folds if entry["generalisation_gap"] is not None]
    return float(np.mean(gaps)) if gaps else None


def sleeve_metrics(frames: RunFrames) -> list[Metrics]:
    """Gate of each fold's sleeves: ``fold``, ``sleeve``, ``gate_t``, ``gate_sharpe`` and ``open``."""
    table = frames.evidence.drop_duplicates(["fold", "sleeve"])
    return [
        {name: row[name] for name in ("fold", "sleeve", "gate_t", "gate_sharpe")} | {"open": row["sleeve_weight"] > 0.0}
        for row in table.to_dict("records")
    ]
