"""Effects of the limits: forbidden levels by mask layer, reduced orders, margin calls and bankruptcies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.run_frames import RunFrames
from sentio_kedro.trading.accounts import DEAD_FRACTION, MIN_EQUITY
from sentio_kedro.trading.action_masks import LAYERS


def mask_shares(frames: RunFrames) -> list[dict[str, Any]]:
    """Share of target levels that each layer of the action mask forbids by regime, mean over agents and folds.

    Returns:
        One entry per layer and regime, in the order of the layers: ``layer``, ``regime``, ``forbidden`` (weighted by
        bars; None in a regime without bars) and ``bars`` (of all agents and folds). Empty without telemetry.
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
        orders, ``margin_calls`` (bars at which the broker liquidated the account) and ``bankruptcies``.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for name in (*frames.seeds, *frames.baselines):
        rows = frames.accounts[frames.accounts["account"] == name]
        requested = rows[["ordered", "capped", "projected"]].max(axis=1)
        orders = float(requested.sum())
        metrics[name] = {
            "ordered": float(requested.mean()),
            "capped_orders": float(rows["capped"].sum()) / orders if orders > 0.0 else None,
            "projected_orders": float(rows["projected"].sum()) / orders if orders > 0.0 else None,
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
