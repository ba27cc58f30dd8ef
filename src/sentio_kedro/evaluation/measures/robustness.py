"""Metrics of the stress tests: costs, latency, start, bootstrapped paths and break-even costs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from sentio_kedro.evaluation.measures.attribution import TRADING_COSTS
from sentio_kedro.evaluation.run_frames import RunFrames

VARIANTS = ("cost", "latency", "start")
MEASURES = ("sharpe", "annual_return", "total_return", "max_drawdown", "turnover")
PATH_QUANTILES = {"low": 0.05, "median": 0.5, "high": 0.95}
BPS = 1e4


def stress_metrics(frames: RunFrames) -> dict[str, Any]:
    """Summarise the frame ``robustness``.

    Returns:
        ``cost``, ``latency`` and ``start``: one entry per value, ascending, with the medians over agents of
        ``MEASURES``; ``path``: None without paths, else ``paths`` (count), ``losing`` (share of them that lost, median
        agent) and per measure its ``low`` (5 % quantile), ``median`` and ``high`` (95 %); ``break_even``: see
        ``break_even_metrics``.
    """
    frame = frames.robustness
    metrics: dict[str, Any] = {kind: _variant_metrics(frame[frame["kind"] == kind]) for kind in VARIANTS}
    return metrics | {"path": _path_metrics(frame[frame["kind"] == "path"]), "break_even": break_even_metrics(frames)}


def break_even_metrics(frames: RunFrames) -> dict[str, Any] | None:
    """Trading costs at which the agents break even.

    Returns:
        None if not simulated or no agent traded, else metrics of the agent with the median multiplier, the lower of two
        in the middle: ``outcome`` (``found``; ``loses_free`` if it loses even without trading costs; ``earns_always``
        if it earns at every simulated multiplier), ``multiplier`` (of commission, spread and impact at which its
        total return first falls to zero; None unless found), ``paid_bps`` (commission, spread and impact
        per side, bps of traded notional; None without trades) and ``bps_per_side`` (the same at the multiplier,
        interpolated; None if the account does not trade there).
    """
    frame = frames.robustness
    agents = frame[frame["kind"] == "break_even"].dropna(subset=["value"]).astype({"value": float})
    if agents.empty:
        return None
    median = agents.sort_values("value", kind="stable").iloc[(len(agents) - 1) // 2]
    multiplier = float(median["value"])
    outcome = "loses_free" if multiplier <= 0.0 else "found" if math.isfinite(multiplier) else "earns_always"
    return {
        "outcome": outcome,
        "multiplier": multiplier if outcome == "found" else None,
        "paid_bps": _paid_bps(frames, str(median["account"])),
        "bps_per_side": float(median["cost_bps"]) if outcome == "found" else None,
    }


def _variant_metrics(rows: pd.DataFrame) -> list[dict[str, Any]]:
    medians = rows.groupby("value")[list(MEASURES)].median().reset_index().astype(float)
    return [{str(name): value for name, value in row.items()} for row in medians.to_dict("records")]


def _path_metrics(rows: pd.DataFrame) -> dict[str, Any] | None:
    if rows.empty:
        return None
    paths = rows.groupby("value")[list(MEASURES)].median()  # one row per path, the median agent
    metrics: dict[str, Any] = {"paths": len(paths), "losing": float((paths["total_return"] < 0.0).mean())}
    for name in MEASURES:
        metrics[name] = {side: float(paths[name].quantile(share)) for side, share in PATH_QUANTILES.items()}
    return metrics


def _paid_bps(frames: RunFrames, account: str) -> float | None:
    rows = frames.accounts[frames.accounts["account"] == account]
    turnover = float(rows["turnover"].sum())
    return BPS * float(rows[list(TRADING_COSTS)].sum().sum()) / turnover if turnover > 0.0 else None
