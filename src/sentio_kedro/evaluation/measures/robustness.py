"""What simulated variants say in a few figures: costs, latency, start, bootstrapped paths, break-even."""

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
    """Condense the frame ``robustness``.

    Args:
        frames: Frames of the run; ``robustness`` may be empty.

    Returns:
        ``cost``, ``latency`` and ``start``: one entry per value, in its order, with the medians over agents of
        ``sharpe``, ``annual_return``, ``total_return``, ``max_drawdown`` and ``turnover``; ``path``: None without
        paths, else ``paths`` (how many), ``losing`` (share of them that lost, median agent) and per figure its
        ``low`` (5 % quantile), ``median`` and ``high`` (95 %); ``break_even``: see ``break_even_metrics``.
    """
    frame = frames.robustness
    figures: dict[str, Any] = {kind: _variant_metrics(frame[frame["kind"] == kind]) for kind in VARIANTS}
    return figures | {"path": _path_metrics(frame[frame["kind"] == "path"]), "break_even": break_even_metrics(frames)}


def break_even_metrics(frames: RunFrames) -> dict[str, Any] | None:
    """Say at which trading costs the agents neither win nor lose.

    Args:
        frames: Frames of the run.

    Returns:
        None if it was not simulated or nobody traded, else figures of the agent with the median multiplier, the lower
        one of two: ``outcome`` (``found``; ``loses_free`` if it loses even without trading costs; ``earns_always`` if
        no multiplier takes its profit away), ``multiplier`` (of commission, spread and impact at which its total return
        is zero; None unless found), ``paid_bps`` (commission, spread and impact that it paid per side, bps of traded
        notional; None if it never traded) and ``bps_per_side`` (the same as simulated at the multiplier).
    """
    frame = frames.robustness
    found = frame[frame["kind"] == "break_even"].dropna(subset=["value"]).astype({"value": float})
    if found.empty:
        return None
    middle = found.sort_values("value", kind="stable").iloc[(len(found) - 1) // 2]
    multiplier = float(middle["value"])
    outcome = "loses_free" if multiplier <= 0.0 else "found" if math.isfinite(multiplier) else "earns_always"
    return {
        "outcome": outcome,
        "multiplier": multiplier if outcome == "found" else None,
        "paid_bps": _paid_bps(frames, str(middle["account"])),
        "bps_per_side": float(middle["cost_bps"]) if outcome == "found" else None,
    }


def _variant_metrics(rows: pd.DataFrame) -> list[dict[str, Any]]:
    medians = rows.groupby("value")[list(MEASURES)].median()
    return [{"value": float(str(value))} | _plain(found) for value, found in medians.iterrows()]


def _path_metrics(rows: pd.DataFrame) -> dict[str, Any] | None:
    if rows.empty:
        return None
    paths = rows.groupby("value")[list(MEASURES)].median()  # one row per path, the median agent
    figures: dict[str, Any] = {"paths": len(paths), "losing": float((paths["total_return"] < 0.0).mean())}
    for name in MEASURES:
        figures[name] = {side: float(paths[name].quantile(share)) for side, share in PATH_QUANTILES.items()}
    return figures


def _plain(values: pd.Series) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _paid_bps(frames: RunFrames, account: str) -> float | None:
    rows = frames.accounts[frames.accounts["account"] == account]
    turnover = float(rows["turnover"].sum())
    return BPS * float(rows[list(TRADING_COSTS)].sum().sum()) / turnover if turnover > 0.0 else None
