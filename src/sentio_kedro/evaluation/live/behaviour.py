"""What live and backtest did: decisions that differ, positions, round trips, slippage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from sentio_kedro.evaluation.live.account import LiveAccount, stamps_of
from sentio_kedro.evaluation.live.split import Modelled, Replay
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.trading.performance import round_trips
from sentio_kedro.trading.records import Records

BASIS_POINTS = 1e4
SENT = ("", "intended", "sent", "accepted", "filled", "cancelled")
"""Outcomes of orders that reached the venue or are on their way, and of symbols without an order."""
SAME = 1e-4  # of equity: positions nearer to each other than a basis point are the same


def differing_decisions(
    decisions: pd.DataFrame, account: LiveAccount, model: Modelled, replay: Replay, symbols: Sequence[str]
) -> pd.DataFrame:
    """List the decisions that were not the backtest's on the same bars; the last one, which nothing followed, is not.

    Args:
        decisions: Frame of the journal.
        account: The live account.
        model: Its positions.
        replay: Backtest on the journaled bars.
        symbols: A assets.

    Returns:
        ``stamp``, ``symbol`` and ``kind``: the outcome of an order that did not reach the venue (``refused``,
        ``dropped``, ``unknown``, or ``denied`` with the limit), ``action`` where agents chose another level, else
        ``size`` where the position after the next bar is another.
    """
    table = decisions.assign(at=stamps_of(decisions["stamp"]))
    by_cell = table.set_index(["at", "symbol"])
    grid = pd.MultiIndex.from_product([account.stamps[:-1], list(symbols)])
    shape = (len(account.stamps) - 1, len(symbols))
    action = by_cell["action"].reindex(grid).to_numpy(np.float64, na_value=-1.0).reshape(shape)
    outcome = by_cell["outcome"].reindex(grid).fillna("").to_numpy(object).reshape(shape)
    facts, rows = replay.facts, account.rows
    apart = np.abs(model.shares[rows[1:]] - replay.shares[rows[1:]]) * facts.next_close[rows[1:] - 1]
    kind = np.where(apart > SAME * np.maximum(account.equity[1:, None], 1e-12), "size", "")
    kind = np.where(action != replay.actions[rows[:-1]], "action", kind).astype(object)
    reason = by_cell["reason"].reindex(grid).fillna("").to_numpy(object).reshape(shape)
    named = np.where(outcome == "denied", "denied: " + reason, outcome)
    kind = np.where(np.isin(outcome.astype(str), SENT), kind, named)
    found = np.argwhere(kind != "")
    return pd.DataFrame(
        {
            "stamp": pd.DatetimeIndex(account.stamps[found[:, 0]]).tz_localize("UTC"),
            "symbol": [symbols[asset] for asset in found[:, 1]],
            "kind": kind[found[:, 0], found[:, 1]],
        }
    )


def path_trips(shares: Floats, value: Floats, costs: Floats, equity: Floats, facts: Records) -> pd.DataFrame:
    """Round trips of a path of positions; what it holds at first counts as bought at the close there.

    Args:
        shares: ``[R + 1, A]``.
        value: ``[R, A]`` sum of shares times price of the trades of a row.
        costs: ``[R, A]``.
        equity: ``[R + 1]``.
        facts: ``[R, A]`` facts of the rows.

    Returns:
        ``symbol`` (its place), ``entry`` (row), ``bars``, ``pnl`` and ``return`` (of the equity at entry).
    """
    factor = np.concatenate([np.ones((1, shares.shape[1])), np.cumprod(facts.split, axis=0)])  # new per old share
    held = shares / factor
    traded = np.diff(held, axis=0)
    bought = value / np.where(traded == 0.0, 1.0, traded)
    prices = np.concatenate([facts.close[:1], np.where(traded == 0.0, facts.next_close * factor[1:], bought)])
    paid = np.concatenate([np.zeros((1, shares.shape[1])), costs])
    parts = (held[:, None], prices, paid[:, None], facts.next_close[-1] * factor[-1])
    path, fills, cost, mark = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    cut = round_trips(path, fills, cost, mark)
    entry, pnl = np.maximum(cut.entry_row.numpy() - 1, 0), cut.pnl.numpy()
    bars = np.maximum(cut.exit_row.numpy() - 1, 0) - entry
    table = {"symbol": cut.asset.numpy(), "entry": entry, "bars": bars, "pnl": pnl}
    return pd.DataFrame(table | {"return": pnl / np.maximum(equity[entry], 1e-12)})


def position_metrics(
    shares: Floats, equity: Floats, value: Floats, trips: pd.DataFrame, prices: Floats
) -> dict[str, float | None]:
    """Exposure, turnover and round trips of a path, as means over its rows.

    Args:
        shares: ``[R + 1, A]``.
        equity: ``[R + 1]``.
        value: ``[R, A]`` traded value.
        trips: Table of ``path_trips``.
        prices: ``[R + 1, A]`` closes.
    """
    position = shares * prices / np.maximum(equity, 1e-12)[:, None]
    traded = len(trips) > 0
    return {
        "gross_exposure": float(np.abs(position).sum(axis=1).mean()),
        "net_exposure": float(position.sum(axis=1).mean()),
        "turnover_per_bar": float((np.abs(value).sum(axis=1) / np.maximum(equity[:-1], 1e-12)).mean()),
        "trades": len(trips),
        "win_rate": float((trips["pnl"] > 0.0).mean()) if traded else None,
        "holding_bars": float(trips["bars"].mean()) if traded else None,
        "median_holding_bars": float(trips["bars"].median()) if traded else None,
    }


def action_shares(decisions: pd.DataFrame, replay: Replay, account: LiveAccount, levels: Sequence[float]) -> list[Any]:
    """Share of the decisions with a level at which live and backtest chose each level, over the same bars."""
    rows, stamps = account.rows[:-1], account.stamps[:-1]
    live = decisions[np.isin(stamps_of(decisions["stamp"]), stamps)]["action"].to_numpy(np.float64)
    modelled = replay.actions[rows].reshape(-1)
    sides = [chosen[chosen >= 0] for chosen in (live, modelled)]
    return [
        {"level": level, **dict(zip(("live", "backtest"), (_share(side, place) for side in sides), strict=True))}
        for place, level in enumerate(levels)
    ]


def _share(chosen: np.ndarray, place: int) -> float | None:
    return float((chosen == place).mean()) if len(chosen) else None


def slippage(trades: pd.DataFrame, account: LiveAccount, model: Modelled, replay: Replay) -> Mapping[str, float | None]:
    """Cost of fills against the open that the step fills at, beside spread and impact of its model, bps of the value.

    Returns:
        ``fills`` (rows and symbols that traded), ``realised_bps`` and ``model_bps``: sums of costs over sums of value.
    """
    value = np.abs(account.ordered.shares * replay.facts.open).sum()
    if not value:
        return {"fills": len(trades), "realised_bps": None, "model_bps": None}
    exits = account.exits.spread.sum()
    realised = model.slipped.sum() + account.ordered.spread.sum()
    return {
        "fills": len(trades),
        "realised_bps": float(realised / value * BASIS_POINTS),
        "model_bps": float((model.spread.sum() - exits) / value * BASIS_POINTS),
    }
