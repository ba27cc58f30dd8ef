"""How often limits stood in the way: mask layers, orders cut down, margin calls and bankruptcies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.run_frames import RunFrames
from sentio_kedro.trading.accounts import DEAD_FRACTION, MIN_EQUITY
from sentio_kedro.trading.action_masks import LAYERS


def mask_shares(frames: RunFrames) -> list[dict[str, Any]]:
    """Average what each layer of the action mask forbade, over agents and folds, by regime.

    Args:
        frames: Frames of the run; ``masks`` may be empty.

    Returns:
        One entry per layer and regime, in the order of the layers: ``layer``, ``regime``, ``forbidden`` (share of the
        target levels of all assets, each agent and fold weighted by its bars; None in a regime that nobody saw) and
        ``bars`` (of all agents and folds). Empty without telemetry.
    """
    masks = frames.masks
    layers = sorted(masks["layer"].unique(), key=lambda layer: LAYERS.index(layer) if layer in LAYERS else len(LAYERS))
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
    """Count orders, what cut them down, margin calls and bankruptcies of every account.

    An order that a limit cut down to nothing counts as an order: what was asked for is the larger of the orders sent
    and the orders cut, bar by bar.

    Args:
        frames: Frames of the run.

    Returns:
        Per account: ``ordered`` (orders asked for, per asset and bar), ``capped_orders`` (share of them that any limit
        cut), ``projected_orders`` (share that a joint limit cut: gross, net, value at risk), both None without an
        order, ``margin_calls`` (bars at which the broker sold out the account) and ``bankruptcies``.
    """
    figures: dict[str, dict[str, Any]] = {}
    for name in (*frames.seeds, *frames.baselines):
        rows = frames.accounts[frames.accounts["account"] == name]
        asked = rows[["ordered", "capped", "projected"]].max(axis=1)
        orders = float(asked.sum())
        figures[name] = {
            "ordered": float(asked.mean()),
            "capped_orders": float(rows["capped"].sum()) / orders if orders > 0.0 else None,
            "projected_orders": float(rows["projected"].sum()) / orders if orders > 0.0 else None,
            "margin_calls": int(rows["called"].astype(bool).sum()),
            "bankruptcies": _bankruptcies(rows),
        }
    return figures


def _bankruptcies(rows: pd.DataFrame) -> int:
    """How often equity fell under a thousandth of the initial one; a fold that starts afresh can do it again."""
    ordered = rows.sort_values(["fold", "row"] if rows["row"].duplicated().any() else "row")
    growth = max(1.0 + float(ordered["return"].iloc[0]), MIN_EQUITY)
    dead = ordered["equity"].to_numpy() <= DEAD_FRACTION * float(ordered["equity"].iloc[0]) / growth
    return int(np.count_nonzero(dead & ~np.concatenate([[False], dead[:-1]])))
