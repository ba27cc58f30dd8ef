"""Worst drawdowns, and breaches of the drawdown limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from sentio_kedro.evaluation.measures.paths import once_a_bar
from sentio_kedro.evaluation.run_frames import (
    RunFacts,
    RunFrames,
    account_paths,
    account_table,
    row_times,
)
from sentio_kedro.trading.performance import drawdown, drawdown_periods

WORST = 5


def worst_drawdowns(frames: RunFrames) -> list[dict[str, Any]]:
    """List the ``WORST`` deepest drawdowns of the headline account; with several backtest paths on its median path.

    Returns:
        Deepest first: ``start`` (decision of the first losing bar), ``bottom``, ``recovery`` (None if the old peak was
        not reached again), ``depth`` (fraction of the peak), ``bars_down`` (from the peak to the bottom) and
        ``bars_to_recover`` (from the bottom to the old peak; None likewise).
    """
    agent = frames.headline
    returns = once_a_bar(account_table(frames, "return"), agent)[agent]
    periods = drawdown_periods(torch.from_numpy(returns.to_numpy(dtype=np.float64, copy=True)))
    times = row_times(frames).loc[returns.index].tolist()
    entries = []
    for index in torch.argsort(periods.depth, descending=True, stable=True)[:WORST].tolist():
        start, bottom, last = (int(row[index]) for row in (periods.start_row, periods.bottom_row, periods.last_row))
        recovered = bool(periods.recovered[index])
        entries.append(
            {
                "start": times[start],
                "bottom": times[bottom],
                "recovery": times[last + 1] if recovered else None,
                "depth": float(periods.depth[index]),
                "bars_down": bottom - start + 1,
                "bars_to_recover": last + 1 - bottom if recovered else None,
            }
        )
    return entries


def drawdown_limit(frames: RunFrames, facts: RunFacts) -> dict[str, Any]:
    """Compare drawdowns of all time, whose peak is never reset, with ``trading.max_drawdown``.

    The limit scales exposure down as the drawdown from the peak of the last ``trading.drawdown_sessions`` approaches
    it. A move within one bar can exceed what is left, so each breach lists the move that would have sufficed; an
    account whose older peaks were forgotten can also breach the limit of all time step by step.

    Returns:
        ``limit`` (fraction of the peak; None if off) and ``agents``, one entry for the headline account and one for
        each agent alone: ``account``, ``deepest`` (drawdown of all time), ``bars_without_headroom`` (share of bars at
        which the limit left no exposure; None if off) and ``breaches``, see ``_breaches``.
    """
    limit = facts.max_drawdown
    names = dict.fromkeys((frames.headline, *frames.seeds))
    agents: dict[str, dict[str, Any]] = {name: {"account": name, "deepest": 0.0, "breaches": []} for name in names}
    for path in account_paths(frames, facts):
        if path.account in agents:
            entry = agents[path.account]
            depth = drawdown(torch.from_numpy(path.rows["return"].to_numpy(dtype=np.float64, copy=True))).numpy()
            entry["deepest"] = max(entry["deepest"], float(depth.max()))
            entry["breaches"] += [] if limit is None else _breaches(path.rows, depth, limit)
    for name, entry in agents.items():
        headroom = frames.accounts.loc[frames.accounts["account"] == name, "headroom"]
        entry["bars_without_headroom"] = None if limit is None else float((headroom <= 0.0).mean())
    return {"limit": limit, "agents": list(agents.values())}


def _breaches(rows: pd.DataFrame, depth: np.ndarray, limit: float) -> list[dict[str, Any]]:
    """Rows at which the drawdown crosses the limit from below.

    Returns:
        In order of time: ``timestamp`` (of the decision), ``fold``, ``drawdown_before``, ``drawdown``, ``loss`` (of
        that bar, fraction of equity), ``gross_exposure`` (the larger of that before and after the fill),
        ``market_move`` (|price profit| / gross exposure) and ``move_to_limit`` (remaining loss to the limit / gross
        exposure: the smallest adverse move of the positions, before costs, that reaches it); the last two None without
        exposure.
    """
    before = np.concatenate([[0.0], depth[:-1]])
    entries = []
    for row in np.flatnonzero((before < limit) & (depth >= limit)).tolist():
        bar = rows.iloc[row]
        gross = float(rows["gross_exposure"].iloc[max(0, row - 1) : row + 1].max())  # before and after the fill
        headroom = (limit - before[row]) / (1.0 - before[row])  # fraction of the equity at the decision
        entries.append(
            {
                "timestamp": bar["timestamp"],
                "fold": int(bar["fold"]),
                "drawdown_before": float(before[row]),
                "drawdown": float(depth[row]),
                "loss": -float(bar["return"]),
                "gross_exposure": gross,
                "market_move": abs(float(bar["price_pnl"])) / gross if gross > 0.0 else None,
                "move_to_limit": float(headroom) / gross if gross > 0.0 else None,
            }
        )
    return entries
