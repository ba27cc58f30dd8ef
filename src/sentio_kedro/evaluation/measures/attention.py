"""Which earlier bars the agents' encoders heed at a few test bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.network.encoder import attention_weights
from sentio_kedro.evaluation.run_frames import COLUMNS
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.timestamps import Floats

Rows = NDArray[np.int64]


def no_attention() -> pd.DataFrame:
    """Return the frame without rows."""
    return pd.DataFrame(columns=list(COLUMNS["attention"]))


def attention_frame(
    bars: AlignedBars,
    features: Floats,
    agents: Mapping[str, AgentBundle],
    positions: pd.DataFrame,
    wanted: int | Sequence[datetime],
) -> pd.DataFrame:
    """Export the attention over time at chosen test bars, of every network of the agents that traded them.

    Args:
        bars: Aligned bars.
        features: ``[T, A, F]`` of the agents' columns, NaN in warm-up.
        agents: Agents by name.
        positions: The agents' ``timestamp symbol seed fold position`` at the test bars.
        wanted: How many bars, or which ones; see ``choose_bars``.

    Returns:
        ``fold seed member layer head symbol timestamp lag weight``, lag in bars, 0 for the bar itself. The weights of
        all lags sum to 1. Without rows where nothing is wanted or no encoder has attention.
    """
    attending = sorted(
        (agent for agent in agents.values() if agent.spec.network.encoder != "mlp"), key=lambda agent: agent.spec.seed
    )
    if not attending:
        return no_attention()
    chosen = choose_bars(bars, positions, wanted, attending[0].spec.trading.orders.latency_bars)
    complete = np.isfinite(features).all(-1, keepdims=True)
    known = torch.from_numpy(np.where(complete, features, 0.0))  # as the backtest shows them
    parts = [
        _agent_frame(agent, bars, known, rows)
        for fold, rows in chosen.items()
        for agent in attending
        if agent.spec.fold == fold
    ]
    return pd.concat(parts, ignore_index=True) if parts else no_attention()


def choose_bars(
    bars: AlignedBars, positions: pd.DataFrame, wanted: int | Sequence[datetime], latency: int
) -> dict[int, Rows]:
    """Choose test bars to look at, the same ones every time.

    Of a number, one is the bar of the last fold at which positions changed most, summed over assets, mean over seeds;
    the others lie evenly over that fold's test rows. Bars at which the end of the test forces positions out are left
    aside. Bars that are named are taken from the last fold that tested them.

    Args:
        bars: Aligned bars.
        positions: ``timestamp symbol seed fold position`` at the test bars.
        wanted: At most so many bars, or the ends of bars.
        latency: Bars that an order is under way beyond the next open.

    Returns:
        Rows in order, by fold.

    Raises:
        ValueError: If a bar that is named was not tested.
    """
    if not isinstance(wanted, int):
        return _named_bars(bars, positions, wanted)
    fold = int(positions["fold"].max())
    mine = positions[positions["fold"] == fold]
    table = mine.pivot(index="timestamp", columns=["seed", "symbol"], values="position").sort_index()
    rows = _grid_rows(bars, pd.DatetimeIndex(table.index))
    last = np.append(np.flatnonzero(np.diff(rows) > 1), len(rows) - 1)  # of each segment
    left = last[np.searchsorted(last, np.arange(len(rows)))] - np.arange(len(rows))  # decisions to its end
    free = np.flatnonzero(left > latency)
    change = np.abs(np.diff(table.to_numpy(), axis=0, prepend=np.nan)).sum(-1)
    change[np.append(0, last[:-1] + 1)] = 0.0  # a segment's first row follows no row
    picked = []
    if wanted and len(free) and change[free].max() > 0.0:
        picked.append(free[change[free].argmax()])
    others = wanted - len(picked)
    if others > 0 and len(free):
        picked += list(free[((np.arange(others) + 0.5) / others * len(free)).astype(np.int64)])
    return {fold: rows[np.unique(np.array(picked, dtype=np.int64))]}


def _named_bars(bars: AlignedBars, positions: pd.DataFrame, wanted: Sequence[datetime]) -> dict[int, Rows]:
    tested = positions.groupby("timestamp")["fold"].max()
    timestamps = pd.DatetimeIndex(pd.to_datetime(list(wanted), utc=True)).unique().sort_values()
    unknown = [timestamp.isoformat() for timestamp in timestamps[~timestamps.isin(tested.index)]]
    if unknown:
        raise ValueError(
            f"`reporting.attention_bars` must name test bars by their ends, from {tested.index.min().isoformat()} to "
            f"{tested.index.max().isoformat()}; no bar was tested at {', '.join(unknown)}. Name others, or give a "
            "number of bars."
        )
    folds = tested.loc[timestamps]
    return {int(fold): _grid_rows(bars, timestamps[(folds == fold).to_numpy()]) for fold in sorted(folds.unique())}


def _grid_rows(bars: AlignedBars, timestamps: pd.DatetimeIndex) -> Rows:
    naive = timestamps.tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[ns]")
    return np.searchsorted(bars.timestamps, naive).astype(np.int64)


def _agent_frame(agent: AgentBundle, bars: AlignedBars, features: Tensor, rows: Rows) -> pd.DataFrame:
    """Lay out the weights of all members at ``rows``, each bar by itself: what lies between them is not encoded."""
    members = [
        torch.cat([attention_weights(network.encoder, features, torch.tensor([row])) for row in rows.tolist()], dim=1)
        for network in agent.networks(features.dtype)
        if len(rows)
    ]
    if not members:
        return no_attention()
    weights = torch.stack(members).flip(-1).numpy()  # [M, L, R, A, heads, W], the bar itself first
    member, layer, bar, asset, head, lag = np.indices(weights.shape).reshape(weights.ndim, -1)
    timestamps, symbols = pd.to_datetime(bars.timestamps[rows], utc=True), np.array(bars.symbols, dtype=object)
    keys = {"fold": agent.spec.fold, "seed": agent.spec.seed, "member": member, "layer": layer, "head": head}
    return pd.DataFrame(
        {**keys, "symbol": symbols[asset], "timestamp": timestamps[bar], "lag": lag, "weight": weights.ravel()}
    )
