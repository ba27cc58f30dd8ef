"""Measures of what accounts do, beside what they earn: how often they act, how long they hold, what they bet on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from sentio_kedro.agent.training.abstention import mean_t_statistic
from sentio_kedro.evaluation.measures.accounts import Metrics, entered_on, median_metrics
from sentio_kedro.evaluation.measures.attribution import Tables
from sentio_kedro.evaluation.measures.returns import REFERENCE
from sentio_kedro.evaluation.run_frames import OF_A_FOLD, SEED_PREFIX, RunFacts, RunFrames, Scheme

MIN_VARIATION = 1e-12  # variances below this share of an account's own are rounding


def behaviour_metrics(frames: RunFrames, paths: Sequence[Tables], facts: RunFacts) -> dict[str, Metrics]:
    """Measure the behaviour of every account; with several backtest paths the median over paths.

    Args:
        frames: Frames of the run.
        paths: See ``accounts.split_paths``.
        facts: Scheme of the folds, and latency of orders.

    Returns:
        Per account, None where undefined: ``changed_decisions``, ``static_return`` and ``timing_return`` (see
        ``holding_metrics``); ``median_holding_bars``, ``weighted_holding_bars``, ``own_exits``, ``forced_profit`` and
        ``effective_bets`` (see ``exit_metrics``); ``market_r2`` and ``alpha_t`` (see ``market_metrics``).
    """
    held = holding_metrics(frames.holdings, len(paths))
    found: dict[str, list[Metrics]] = {}
    for path in paths:
        returns = path["return"]
        trades = entered_on(frames.trades, returns.index)
        forced = closed_by_a_fold(trades, returns.index, facts.scheme, facts.latency_bars)
        of_account = dict(list(trades.assign(forced=forced).groupby("account")))
        nothing = trades.iloc[:0].assign(forced=forced.iloc[:0])
        market = returns[REFERENCE].to_numpy(dtype=np.float64)
        for name in map(str, returns.columns):
            entry = exit_metrics(of_account.get(name, nothing))
            entry |= market_metrics(returns[name].to_numpy(dtype=np.float64), None if name == REFERENCE else market)
            found.setdefault(name, []).append(entry)
    unknown = dict.fromkeys(("changed_decisions", "static_return", "timing_return"))
    return {
        name: held.get(name, unknown) | (entries[0] if len(entries) == 1 else median_metrics(entries))
        for name, entries in found.items()
    }


def holding_metrics(holdings: pd.DataFrame, paths: int = 1) -> dict[str, Metrics]:
    """Share of decisions that changed a position, and what a position that never changed would have earned.

    The static return is the sum over folds and assets of the mean position times the asset's returns; the timing return
    is the rest of the gross profit: the covariance of positions and returns (Lo 2008, Where Do Alphas Come From?,
    Journal of Investment Management 6). Means are taken by fold, so that a side that is kept all through a fold counts
    as static, whatever the next fold's is.

    Args:
        holdings: Frame of the run.
        paths: Backtest paths that its rows make.

    Returns:
        Per account: ``changed_decisions`` (share of assets and bars), ``static_return`` and ``timing_return`` (before
        costs, sums of fractions of the equity at each decision, mean over paths).
    """
    metrics = {}
    for name, rows in holdings.groupby("account"):
        static = float((rows["position"] * rows["asset_return"]).sum()) / paths
        metrics[str(name)] = {
            "changed_decisions": float(rows["changed"].sum() / rows["bars"].sum()),
            "static_return": static,
            "timing_return": float(rows["gross"].sum()) / paths - static,
        }
    return metrics


def closed_by_a_fold(trades: pd.DataFrame, index: pd.Index, scheme: Scheme, latency: int = 0) -> pd.Series:
    """Tell which round trips the end of a fold closed, not a decision of the agents that opened them.

    Those are trips that end at the last row before a gap or the end, and, of accounts that agents of folds trade one
    after the other, those that the first decision of the next fold's agents closes, ``latency`` rows later. Where
    accounts start anew in each fold (schemes other than walk-forward) they are all that end at the last row of a fold's
    test segment.

    Args:
        trades: Round trips entered on the rows.
        index: ``(fold, row)`` of the test rows, in order.
        scheme: Scheme of the folds.
        latency: Rows from a decision to the one in whose step its order fills.

    Returns:
        Boolean, index of ``trades``.
    """
    rows = pd.DataFrame({"fold": index.get_level_values("fold"), "row": index.get_level_values("row")})
    by_fold = trades["account"].isin(OF_A_FOLD) | trades["account"].astype(str).str.startswith(SEED_PREFIX)
    if scheme == "walk_forward":
        known = np.unique(rows["row"])
        ends = known[np.diff(known, append=known[-1] + 2) > 1]
        starts = rows.groupby("fold")["row"].min().iloc[1:] + latency
        forced: pd.Series = trades["exit_row"].isin(ends) | (by_fold & trades["exit_row"].isin(starts))
        return forced
    last = rows[rows.groupby("fold")["row"].diff(-1).fillna(-2.0) < -1.0]
    of_fold = pd.MultiIndex.from_frame(trades[["fold", "exit_row"]]).isin(pd.MultiIndex.from_frame(last))
    forced = (by_fold & of_fold) | (trades["exit_row"] == rows["row"].max())
    return forced


def exit_metrics(round_trips: pd.DataFrame) -> Metrics:
    """Describe an account's round trips by how they ended and how many separate bets they were.

    Args:
        round_trips: Trips with the column ``forced`` of ``closed_by_a_fold``.

    Returns:
        ``median_holding_bars``; ``weighted_holding_bars`` (half of the time in positions lies in trips at least as
        long: many short trips do not hide a side that is kept); ``own_exits`` (trips that were not forced);
        ``forced_profit`` (net profit of forced trips over that of all, in units of the equity at entry; None without a
        profit); ``effective_bets``: the sum over trips of the mean over their bars of 1 / number of trips open at that
        bar, so that trips of several assets at once count as one bet (average uniqueness: Lopez de Prado, Advances in
        Financial Machine Learning, 2018, chapter 4).
    """
    profit = float(round_trips["return"].sum())
    forced = round_trips["forced"].astype(bool)
    return {
        "median_holding_bars": float(round_trips["bars"].median()) if len(round_trips) else None,
        "weighted_holding_bars": _weighted_holding(round_trips["bars"].to_numpy(dtype=np.float64)),
        "own_exits": int((~forced).sum()),
        "forced_profit": float(round_trips.loc[forced, "return"].sum()) / profit if profit > 0.0 else None,
        "effective_bets": _uniqueness(round_trips),
    }


def _weighted_holding(bars: np.ndarray) -> float | None:
    """Median of trips' lengths, each weighted by its length; None without time in a position."""
    rising = np.sort(bars)
    spent = rising.cumsum()
    return float(rising[np.searchsorted(spent, 0.5 * spent[-1])]) if len(bars) and spent[-1] > 0.0 else None


def _uniqueness(round_trips: pd.DataFrame) -> float:
    """Sum of the uniqueness of round trips; each is open at the rows from its entry to the one before its exit."""
    if round_trips.empty:
        return 0.0
    first = round_trips["entry_row"].to_numpy(dtype=np.int64)
    stop = np.maximum(round_trips["exit_row"].to_numpy(dtype=np.int64), first + 1)
    start = first.min()
    changes = np.zeros(stop.max() - start + 1)
    np.add.at(changes, first - start, 1.0)
    np.add.at(changes, stop - start, -1.0)
    shares = np.concatenate([[0.0], (1.0 / np.maximum(changes.cumsum(), 1.0)).cumsum()])  # up to each row
    return float(((shares[stop - start] - shares[first - start]) / (stop - first)).sum())


def market_metrics(returns: np.ndarray, market: np.ndarray | None) -> Mapping[str, Any]:
    """Regress returns on those of the market, ``[T]`` both; None is the market itself.

    Returns:
        ``market_r2`` and ``alpha_t``: t statistic of the intercept by the standard error of Newey and West (1987). As
        the intercept is the mean of its influence function, it is the t statistic of that. None if either does not
        vary, or the market explains all.
    """
    undefined: dict[str, Any] = {"market_r2": None, "alpha_t": None}
    if market is None or len(returns) < 3 or returns.var() <= 0.0 or market.var() <= 0.0:  # noqa: PLR2004 - a line
        return undefined
    moved, centred = returns - returns.mean(), market - market.mean()
    beta = (moved @ centred) / (centred @ centred)
    residual = moved - beta * centred
    if residual.var() <= MIN_VARIATION * returns.var():
        return undefined | {"market_r2": 1.0}
    alpha = returns.mean() - beta * market.mean()
    influence = alpha + residual * (1.0 - market.mean() * centred / centred.var())
    t = float(mean_t_statistic(torch.from_numpy(influence)))
    return {"market_r2": 1.0 - float(residual.var() / returns.var()), "alpha_t": t}
