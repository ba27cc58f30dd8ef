"""Effects of the limits: forbidden levels, reduced orders, margin calls, bankruptcies; the test of value at risk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.run_frames import RunFrames
from sentio_kedro.evaluation.statistics.kupiec import kupiec_p
from sentio_kedro.trading.records import LAYERS
from sentio_kedro.trading.step.execution import DEAD_FRACTION
from sentio_kedro.trading.step.limits import MIN_EQUITY


def mask_shares(frames: RunFrames) -> list[dict[str, Any]]:
    """Share of the headline account's target levels that each layer of the mask forbids by regime, mean over folds.

    Returns:
        One entry per layer and regime, in the order of the layers: ``layer``, ``regime``, ``forbidden`` (weighted by
        bars; None in a regime without bars) and ``bars``. Empty without telemetry.
    """
    masks = frames.masks
    layers = sorted(masks["layer"].unique(), key=LAYERS.index)
    weighted = masks.assign(forbidden=masks["forbidden"] * masks["bars"])
    sums = weighted.groupby(["layer", "regime"])[["forbidden", "bars"]].sum()
    entries = []
    for layer in layers:
        for regime in range(frames.regimes):
            total, bars = sums.loc[(layer, regime)] if (layer, regime) in sums.index else (0.0, 0)
            share = float(total / bars) if bars else None
            entries.append({"layer": str(layer), "regime": regime, "forbidden": share, "bars": int(bars)})
    return entries


def order_metrics(frames: RunFrames) -> dict[str, dict[str, Any]]:
    """Orders, orders reduced by limits, margin calls and bankruptcies of every account.

    An order that a limit reduces to zero still counts: requested orders are the larger of the orders sent and the
    orders reduced, bar by bar.

    Returns:
        Per account: ``ordered`` (requested orders per asset and bar), ``capped_orders`` (share of them that any limit
        reduced), ``projected_orders`` (share that a joint limit reduced: gross, net, value at risk), both None without
        orders, ``idle`` (share of bars at which the drawdown limit left no exposure), ``margin_calls`` (bars at which
        the broker liquidated the account) and ``bankruptcies``.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((frames.headline, *frames.seeds, *frames.baselines)):
        rows = frames.accounts[frames.accounts["account"] == name]
        requested = rows[["ordered", "capped", "projected"]].max(axis=1)
        orders = float(requested.sum())
        metrics[name] = {
            "ordered": float(requested.mean()),
            "capped_orders": float(rows["capped"].sum()) / orders if orders > 0.0 else None,
            "projected_orders": float(rows["projected"].sum()) / orders if orders > 0.0 else None,
            "idle": float((rows["headroom"] <= 0.0).mean()),
            "margin_calls": int(rows["called"].astype(bool).sum()),
            "bankruptcies": _bankruptcies(rows),
        }
    return metrics


def _bankruptcies(rows: pd.DataFrame) -> int:
    """Count falls of equity below a thousandth of the initial one; an account that restarts by fold can repeat it."""
    ordered = rows.sort_values(["fold", "row"] if rows["row"].duplicated().any() else "row")
    growth = max(1.0 + float(ordered["return"].iloc[0]), MIN_EQUITY)
    dead = ordered["equity"].to_numpy() <= DEAD_FRACTION * float(ordered["equity"].iloc[0]) / growth
    return int(np.count_nonzero(dead & ~np.concatenate([[False], dead[:-1]])))


def value_at_risk_test(frames: RunFrames) -> list[dict[str, Any]]:
    """Test the value at risk of single assets, which limits are set by, against the returns of the next session.

    Returns:
        One entry per side, ``fall`` (losses of longs) and ``rise`` (losses of shorts), all symbols together: ``side``,
        ``sessions`` (asset-sessions tested), ``exceedances`` (in which the return was beyond the value at risk),
        ``share`` (of them), ``expected`` (1 - ``masks.var_confidence``) and ``p`` (Kupiec's test that the two are
        equal; sessions of one day share the market, so it is too small). Empty without sessions.
    """
    entries = []
    for side, rows in frames.value_at_risk.groupby("side", sort=True):
        sessions, exceedances = int(rows["sessions"].sum()), int(rows["exceedances"].sum())
        expected = round(1.0 - float(rows["confidence"].iloc[0]), 12)
        entry = {"side": str(side), "sessions": sessions, "exceedances": exceedances, "expected": expected}
        tested = {"share": exceedances / sessions, "p": kupiec_p(sessions, exceedances, expected)} if sessions else {}
        entries.append({"share": None, "p": None} | entry | tested)
    return entries
