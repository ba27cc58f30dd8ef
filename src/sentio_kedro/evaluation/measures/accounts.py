"""Metrics of each account on given rows: returns, ledger and round trips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.evaluation.measures.attribution import Tables, cost_share, ledger_sums
from sentio_kedro.evaluation.measures.paths import median_place, table_paths
from sentio_kedro.evaluation.measures.returns import return_metrics
from sentio_kedro.evaluation.run_frames import LINES, OF_A_FOLD, SEED_PREFIX, RunFrames, account_table, row_times

Metrics = dict[str, Any]
LEDGER = ("return", "turnover", "gross_exposure", "net_exposure", *LINES)
DAY = pd.Timedelta(days=1)


def ledger_tables(frames: RunFrames) -> dict[str, pd.DataFrame]:
    """Tables of ``LEDGER`` by name, index ``(fold, row)``, one column per account; and ``day``, see ``day_numbers``."""
    tables = {name: account_table(frames, name) for name in LEDGER}
    index = tables["return"].index
    return tables | {"day": pd.DataFrame({"day": day_numbers(frames, index)}, index=index)}


def day_numbers(frames: RunFrames, index: pd.Index) -> NDArray[np.int64]:
    """UTC day of each decision, counted from 1970, for an index with the level ``row``."""
    times = pd.DatetimeIndex(row_times(frames).loc[index.get_level_values("row")])
    return np.asarray((times - pd.Timestamp(0, tz="UTC")) // DAY, dtype=np.int64)


def split_paths(tables: Tables) -> list[Tables]:
    """Split tables with index ``(fold, row)`` by backtest path; a single path keeps them unchanged."""
    paths = table_paths(tables["return"])
    if len(paths) == 1:
        return [tables]
    return [{name: table.iloc[places] for name, table in tables.items()} for places in paths]


def path_metrics(paths: Sequence[Tables], trades: pd.DataFrame, periods_per_year: float) -> dict[str, Metrics]:
    """Metrics of each account; with several backtest paths the median over paths, each metric on its own.

    Args:
        paths: See ``split_paths``.
        trades: Round trips.
        periods_per_year: Bars a year.

    Returns:
        See ``account_metrics``; ``costs`` are those of the path with the median total return, so that they add up.
    """
    parts = [account_metrics(path, trades, periods_per_year) for path in paths]
    if len(parts) == 1:
        return parts[0]
    metrics = {}
    for account in parts[0]:
        entries = [part[account] for part in parts]
        median = entries[median_place([entry["total_return"] for entry in entries])]
        metrics[account] = median_metrics(entries) | {"costs": median["costs"]}
    return metrics


def account_metrics(
    tables: Tables, trades: pd.DataFrame, periods_per_year: float, *, contiguous: bool = True
) -> dict[str, Metrics]:
    """Metrics of each account on the rows of ``tables``.

    Args:
        tables: See ``ledger_tables``; all rows or some, no row twice.
        trades: Round trips; those entered on other rows or in other folds are ignored.
        periods_per_year: Bars a year.
        contiguous: See ``return_metrics``.

    Returns:
        Per account: the metrics of ``return_metrics`` and ``round_trip_metrics``; ``turnover_per_bar`` (mean traded
        notional / equity) and ``turnover_per_year``; ``gross_exposure`` and ``net_exposure`` (means); ``invested``
        (share of bars with a position); ``traded_bars`` (share of bars on which a position was changed); ``costs`` (see
        ``ledger_sums``) and ``cost_share`` (see there).
    """
    returns = tables["return"]
    metrics = return_metrics(returns, tables["day"]["day"].to_numpy(), periods_per_year, contiguous=contiguous)
    by_account = dict(list(entered_on(trades, returns.index).groupby("account")))
    means = {name: tables[name].mean() for name in ("turnover", "gross_exposure", "net_exposure")}
    invested, traded = ((tables[name] > 0.0).mean() for name in ("gross_exposure", "turnover"))
    for account, entry in metrics.items():
        sums = ledger_sums({line: tables[line][account] for line in LINES})
        entry |= {
            "turnover_per_bar": float(means["turnover"][account]),
            "turnover_per_year": float(means["turnover"][account]) * periods_per_year,
            "gross_exposure": float(means["gross_exposure"][account]),
            "net_exposure": float(means["net_exposure"][account]),
            "invested": float(invested[account]),
            "traded_bars": float(traded[account]),
            "cost_share": cost_share(sums),
            "costs": sums,
            **round_trip_metrics(by_account.get(account, trades.iloc[:0])),
        }
    return metrics


def entered_on(trades: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """Round trips entered on the rows of ``index`` ``(fold, row)``; for accounts that restart by fold, in that fold."""
    inside = trades["entry_row"].isin(index.get_level_values("row"))
    by_fold = trades["account"].isin(OF_A_FOLD) | trades["account"].astype(str).str.startswith(SEED_PREFIX)
    return trades[inside & (pd.MultiIndex.from_frame(trades[["fold", "entry_row"]]).isin(index) | ~by_fold)]


def round_trip_metrics(round_trips: pd.DataFrame) -> Metrics:
    """Metrics of round trips.

    Args:
        round_trips: Columns ``pnl`` (quote currency), ``return`` (pnl / equity at entry), both net of costs, ``cost``
            (all costs of the round trip / equity at entry) and ``bars``.

    Returns:
        ``trades`` (count), ``win_rate`` (share with a positive net profit), ``expectancy`` (mean net profit / equity at
        entry), ``round_trip_cost`` (mean cost / equity at entry), ``payoff`` (mean win / mean loss) and
        ``holding_bars`` (mean); None where there is nothing to average.
    """
    results = round_trips["return"]
    wins, losses = results[round_trips["pnl"] > 0.0], results[round_trips["pnl"] < 0.0]
    traded = len(round_trips) > 0
    return {
        "trades": len(round_trips),
        "win_rate": len(wins) / len(round_trips) if traded else None,
        "expectancy": float(results.mean()) if traded else None,
        "round_trip_cost": float(round_trips["cost"].mean()) if traded else None,
        "payoff": float(wins.mean() / -losses.mean()) if len(wins) and len(losses) else None,
        "holding_bars": float(round_trips["bars"].mean()) if traded else None,
    }


def median_metrics(entries: Sequence[Mapping[str, Any]]) -> Metrics:
    """Median of each metric over accounts or paths; nested tables are left out.

    A metric that fewer than half of the entries define is None. ``recovery_bars`` of a drawdown that has not recovered
    counts as infinite; an infinite median is None.
    """
    medians: Metrics = {}
    for name in [name for name, value in entries[0].items() if not isinstance(value, dict)]:
        values = [entry[name] for entry in entries]
        finite = [value for value in values if value is not None and np.isfinite(value)]
        if name == "recovery_bars":
            finite += [math.inf for entry in entries if entry[name] is None and entry["max_drawdown"]]
        median = float(np.median(finite)) if 2 * len(finite) >= len(entries) and finite else None
        medians[name] = median if median is not None and math.isfinite(median) else None
    return medians
