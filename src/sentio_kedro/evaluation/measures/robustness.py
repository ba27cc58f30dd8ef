"""Metrics of the stress tests: costs, latency, start, bootstrapped paths and break-even costs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from sentio_kedro.evaluation.measures.attribution import TRADING_COSTS
from sentio_kedro.evaluation.run_frames import RunFrames

VARIANTS = ("cost", "latency", "start", "without")
MEASURES = ("sharpe", "annual_return", "total_return", "max_drawdown", "turnover")
PATH_QUANTILES = {"low": 0.05, "median": 0.5, "high": 0.95}
BPS = 1e4


def stress_metrics(frames: RunFrames) -> dict[str, Any]:
    """Summarise the frame ``robustness``.

    Returns:
        ``cost``, ``latency``, ``start`` (share of each fold's test rows) and ``without`` (the seed that is left out):
        one entry per value, ascending, with ``MEASURES`` and ``correlation`` (of ``start``, else None);
        ``without_range``: ``low`` and ``high`` Sharpe ratio of the ensembles that lack one seed, None without them;
        ``start_dates``: see ``start_metrics``; ``path``: None without paths, else ``paths`` (count), ``losing`` (share
        of them that lost) and per measure its ``low`` (5 % quantile), ``median`` and ``high`` (95 %); ``break_even``:
        see ``break_even_metrics``.
    """
    frame = frames.robustness
    metrics: dict[str, Any] = {kind: _variant_metrics(frame[frame["kind"] == kind]) for kind in VARIANTS}
    metrics["start_dates"] = start_metrics(frame)
    ratios = [entry["sharpe"] for entry in metrics["without"]]
    metrics["without_range"] = {"low": min(ratios), "high": max(ratios)} if ratios else None
    return metrics | {"path": _path_metrics(frame[frame["kind"] == "path"]), "break_even": break_even_metrics(frames)}


def start_metrics(robustness: pd.DataFrame) -> dict[str, Any] | None:
    """Summarise the accounts begun later in each fold.

    Returns:
        None if not simulated, else ``correlation`` (of their positions with those of the account begun first, mean over
        starts; None if none ever held anything) and ``sharpe_spread`` (highest less lowest Sharpe ratio on the rows on
        which all have started).
    """
    starts = robustness[robustness["kind"] == "start"].sort_values("value")
    if starts.empty:
        return None
    correlation = starts["correlation"].iloc[1:].astype(float).mean()
    spread = float(starts["sharpe"].max() - starts["sharpe"].min())
    return {"correlation": float(correlation) if math.isfinite(correlation) else None, "sharpe_spread": spread}


def break_even_metrics(frames: RunFrames) -> dict[str, Any] | None:
    """Trading costs at which the agent breaks even.

    Returns:
        None if not simulated or it never traded, else ``outcome`` (``found``; ``loses_free`` if it loses even without
        trading costs; ``earns_always`` if it earns at every simulated multiplier), ``multiplier`` (of commission,
        spread and impact at which its total return first falls to zero; None unless found), ``paid_bps`` (commission,
        spread and impact per side, bps of traded notional; None without trades) and ``bps_per_side`` (the same at the
        multiplier, interpolated; None if the account does not trade there).
    """
    frame = frames.robustness
    found = frame[frame["kind"] == "break_even"].dropna(subset=["value"])
    if found.empty:
        return None
    multiplier = float(found["value"].iloc[0])
    outcome = "loses_free" if multiplier <= 0.0 else "found" if math.isfinite(multiplier) else "earns_always"
    return {
        "outcome": outcome,
        "multiplier": multiplier if outcome == "found" else None,
        "paid_bps": _paid_bps(frames, frames.headline),
        "bps_per_side": float(found["cost_bps"].iloc[0]) if outcome == "found" else None,
    }


def _variant_metrics(rows: pd.DataFrame) -> list[dict[str, Any]]:
    ordered = rows.sort_values("value")[["value", *MEASURES, "correlation"]].astype(float)
    return [{str(name): value for name, value in row.items()} for row in ordered.to_dict("records")]


def _path_metrics(rows: pd.DataFrame) -> dict[str, Any] | None:
    if rows.empty:
        return None
    metrics: dict[str, Any] = {"paths": len(rows), "losing": float((rows["total_return"] < 0.0).mean())}
    for name in MEASURES:
        metrics[name] = {
            side: float(rows[name].astype(float).quantile(share)) for side, share in PATH_QUANTILES.items()
        }
    return metrics


def _paid_bps(frames: RunFrames, account: str) -> float | None:
    rows = frames.accounts[frames.accounts["account"] == account]
    turnover = float(rows["turnover"].sum())
    return BPS * float(rows[list(TRADING_COSTS)].sum().sum()) / turnover if turnover > 0.0 else None
