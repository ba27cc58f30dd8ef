"""The figures of every account by regime, by fold and by calendar year."""

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
from sentio_kedro.evaluation.run_frames import SEED_PREFIX, RunFrames, account_table, metric_key, row_times

PER_REGIME = (
    *("sharpe", "sortino", "total_return", "conditional_value_at_risk", "gross_exposure", "turnover_per_bar"),
    *("cost_share", "trades", "win_rate"),
)
PER_YEAR = (
    *("sharpe", "sortino", "total_return", "annual_volatility", "max_drawdown", "conditional_value_at_risk"),
    *("information_ratio", "trades", "win_rate", "expectancy", "turnover_per_bar", "gross_exposure", "cost_share"),
)


def regime_metrics(frames: RunFrames, tables: Tables, periods_per_year: float) -> list[Metrics]:
    """Split the result of every account by the regime that its agent saw at the decision.

    Args:
        frames: Frames of the run.
        tables: See ``account_figures.ledger_tables``.
        periods_per_year: Bars a year.

    Returns:
        One entry per account and regime, calm to volatile; accounts are ``agent`` (medians over seeds), the baselines
        and every seed: ``account``, ``regime``, ``bars``, ``share`` (of the bars), and the figures ``PER_REGIME`` of
        those bars alone, of round trips by the regime at their entry. None where there is nothing to measure. Where
        folds test rows again, medians over backtest paths.
    """
    paths = split_paths({**tables, "regime": account_table(frames, "regime")})
    found: dict[str, list[Metrics]] = {}
    for account in tables["return"].columns:
        trades = frames.trades[frames.trades["account"] == account]
        own = [{name: table if name == "day" else table[[account]] for name, table in path.items()} for path in paths]
        regime = [path["regime"][account].to_numpy() for path in own]
        found[account] = [
            _of_rows(own, [seen == number for seen in regime], trades, PER_REGIME, periods_per_year)[account]
            for number in range(frames.regimes)
        ]
    return _by_account(frames, found, "regime", list(range(frames.regimes)))


def year_metrics(frames: RunFrames, tables: Tables, periods_per_year: float) -> list[Metrics]:
    """Split the result of every account by the calendar year of the decision, UTC.

    Args:
        frames: Frames of the run.
        tables: See ``account_figures.ledger_tables``.
        periods_per_year: Bars a year.

    Returns:
        One entry per account and year, as ``regime_metrics``, with the figures ``PER_YEAR``; ``year`` in the place of
        ``regime``. First and last year may be partial.
    """
    paths, times = split_paths(tables), pd.DatetimeIndex(row_times(frames))
    year_of = pd.Series(times.year, index=row_times(frames).index)
    year = [year_of.loc[path["return"].index.get_level_values("row")].to_numpy() for path in paths]
    years = [int(number) for number in np.unique(times.year)]
    parts = [
        _of_rows(paths, [seen == number for seen in year], frames.trades, PER_YEAR, periods_per_year)
        for number in years
    ]
    found = {account: [part[account] for part in parts] for account in tables["return"].columns}
    return _by_account(frames, found, "year", years)


def _of_rows(
    paths: Sequence[Tables],
    inside: Sequence[np.ndarray],
    trades: pd.DataFrame,
    names: Sequence[str],
    periods_per_year: float,
) -> dict[str, Metrics]:
    """Figures ``names`` of each account on the rows ``inside`` of each path ``[T]``, the median over the paths."""
    parts = [
        _of_path(tables, here, trades, names, periods_per_year) for tables, here in zip(paths, inside, strict=True)
    ]
    if len(parts) == 1:
        return parts[0]
    return {account: median_metrics([part[account] for part in parts]) for account in parts[0]}


def _of_path(
    tables: Tables, inside: np.ndarray, trades: pd.DataFrame, names: Sequence[str], periods_per_year: float
) -> dict[str, Metrics]:
    """Figures ``names`` of each account on the rows ``inside`` ``[T]``, with their count and share."""
    bars, accounts = int(inside.sum()), tables["return"].columns
    about = {"bars": bars, "share": bars / len(inside)}
    if bars == 0:
        return {str(account): about | dict.fromkeys(names) for account in accounts}
    part = {name: table[inside] for name, table in tables.items()}
    figures = account_metrics(part, trades, periods_per_year, contiguous="max_drawdown" in names)
    return {account: about | {name: found[name] for name in names} for account, found in figures.items()}


def _by_account(
    frames: RunFrames, found: Mapping[str, list[Metrics]], key: str, labels: Sequence[int]
) -> list[Metrics]:
    """List entries by account, the agents' medians first, each with its label under ``key``."""
    medians = [median_metrics([found[name][place] for name in frames.seeds]) for place in range(len(labels))]
    by_account = {"agent": medians} | {metric_key(name): found[name] for name in (*frames.baselines, *frames.seeds)}
    return [
        {"account": account, key: label} | figures
        for account, entries in by_account.items()
        for label, figures in zip(labels, entries, strict=True)
    ]


def symbol_metrics(frames: RunFrames) -> list[Metrics]:
    """What the agents held of each symbol, and how its round trips ended, all seeds together.

    Args:
        frames: Frames of the run; ``positions`` may be empty.

    Returns:
        One entry per symbol: ``symbol``, ``net_exposure`` and ``gross_exposure`` (means over bars and seeds, fractions
        of equity), ``largest`` (largest size), ``invested`` (share of bars with a position), and of its round trips
        ``trades`` (of all seeds), ``win_rate``, ``expectancy``, ``round_trip_cost``, ``payoff`` and ``holding_bars``.
    """
    round_trips = frames.trades[frames.trades["account"].isin(frames.seeds)]
    found: list[Metrics] = []
    for symbol, held in frames.positions.groupby("symbol", sort=True)["position"]:
        size = held.abs()
        entry: Metrics = {
            "symbol": str(symbol),
            "net_exposure": float(held.mean()),
            "gross_exposure": float(size.mean()),
        }
        entry |= {"largest": float(size.max()), "invested": float((size > 0.0).mean())}
        found.append(entry | round_trip_metrics(round_trips[round_trips["symbol"] == symbol]))
    return found


def fold_metrics(frames: RunFrames, tables: Tables, periods_per_year: float) -> list[Metrics]:
    """Figures of every agent in every fold, beside its train and validation Sharpe ratios.

    Args:
        frames: Frames of the run.
        tables: See ``account_figures.ledger_tables``.
        periods_per_year: Bars a year.

    Returns:
        One entry per fold and agent: ``fold``, ``seed``, ``bars``, ``first_timestamp``, ``last_timestamp``,
        ``train_sharpe``, ``validation_sharpe``, ``generalisation_gap`` (train less validation), ``validation_t`` (t
        statistic on validation rows), ``abstention_threshold`` (None is off), ``abstains`` (whether the agent stayed
        flat since its evidence was not above it) and the figures of ``account_metrics``.
    """
    times, fold_of_row = row_times(frames), tables["return"].index.get_level_values("fold")
    before = {
        (int(row["fold"]), int(row["seed"])): _before_the_test(row) for row in frames.agent_table.to_dict("records")
    }
    entries: list[Metrics] = []
    for number in sorted(set(fold_of_row)):
        part = {name: table[fold_of_row == number] for name, table in tables.items()}
        figures = account_metrics(part, _trades_of_fold(frames.trades, number), periods_per_year)
        rows = part["return"].index.get_level_values("row")
        for name in frames.seeds:
            seed = seed_number(name)
            entry: Metrics = {"fold": number, "seed": seed, "bars": len(rows)}
            entry |= {"first_timestamp": times[rows[0]], "last_timestamp": times[rows[-1]]}
            entries.append(entry | before.get((number, seed), _before_the_test({})) | figures[name])
    return entries


def selected_feature_metrics(frames: RunFrames) -> list[Metrics]:
    """Say which feature columns the agents of each fold hear; the agents of a fold that hear the same share an entry.

    Args:
        frames: Frames of the run.

    Returns:
        In order of the folds: ``fold``, ``seeds``, ``names`` (what is heard: values and sizes of columns), ``columns``
        (of how many columns), ``of`` (how many columns there are) and ``lags`` (bars heard one by one, the present one
        included). Empty for agents whose table does not say.
    """
    table = frames.agent_table
    if "selected_features" not in table.columns:
        return []
    found: list[Metrics] = []
    known = table.dropna(subset=["selected_features"]).sort_values(["fold", "seed"], kind="stable")
    for row in known.to_dict("records"):
        names = row["selected_features"].split(", ") if row["selected_features"] else []
        told: Metrics = {"fold": int(row["fold"]), "names": names, "columns": int(row["selected_columns"])}
        told |= {"of": int(row["feature_columns"]), "lags": int(row["selected_lags"])}
        same = next((entry for entry in found if told.items() <= entry.items()), None)
        if same is None:
            found.append(told | {"seeds": [int(row["seed"])]})
        else:
            same["seeds"].append(int(row["seed"]))
    return found


def generalisation_gap(folds: Sequence[Metrics]) -> float | None:
    """Train less validation Sharpe ratio, the mean over folds and seeds; None if no agent's is known."""
    gaps = [entry["generalisation_gap"] for entry in folds if entry["generalisation_gap"] is not None]
    return float(np.mean(gaps)) if gaps else None


def seed_number(account: str) -> int:
    """Seed of an agent's account."""
    return int(account.removeprefix(SEED_PREFIX))


def _before_the_test(row: Mapping[Any, Any]) -> Metrics:
    """What was known of an agent before its test, None where its row of ``agent_table`` does not say."""
    names = ("train_sharpe", "validation_sharpe", "validation_t", "abstention_threshold")
    known: Metrics = {name: _known(row.get(name)) for name in names}
    train, validation = known["train_sharpe"], known["validation_sharpe"]
    known["generalisation_gap"] = None if train is None or validation is None else train - validation
    return known | {"abstains": bool(row.get("abstains", False))}


def _known(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _trades_of_fold(trades: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Agents' round trips of a fold, where the frame says so: combinatorial folds trade the same rows again."""
    return trades[trades["fold"] == fold] if "fold" in trades.columns else trades
