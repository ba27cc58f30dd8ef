"""The frames of a backtest: what each account earned and held, its round trips and its actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sentio_kedro.agent.ensemble import AgentsPolicy
from sentio_kedro.market.bars import AlignedBars
from sentio_kedro.market.splits import Fold, Segment
from sentio_kedro.trading.execution import Fill
from sentio_kedro.trading.performance import round_trips
from sentio_kedro.trading.simulate import Prices, net_returns

Frames = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Walk:
    """One contiguous walk of a batch of accounts.

    Attributes:
        fold: Fold of the rows; -1 for baselines, whose rows carry the fold of each row.
        rows: Decision rows, contiguous.
        names: One name per account.
        prices: Prices along the rows ``[S, 1, A]``.
        fill: Ledger ``[S, N, ...]``.
        agents: Policy of the agents, whose accounts come first; None for baselines.
    """

    fold: int
    rows: Segment
    names: tuple[str, ...]
    prices: Prices
    fill: Fill
    agents: AgentsPolicy | None


def walk_frames(walks: Sequence[Walk], bars: AlignedBars, folds: Sequence[Fold]) -> Frames:
    """Describe walks as frames.

    Args:
        walks: Walks of agents, then that of the baselines.
        bars: Aligned bars.
        folds: Folds, to tell whose test a baseline's row is.

    Returns:
        Frames ``accounts``, ``positions``, ``trades`` and ``actions``.
    """
    fold_of = {row: fold.number for fold in folds for part in fold.test for row in range(part.start, part.stop)}
    accounts = [_account_frame(walk, bars, fold_of) for walk in walks]
    return {
        "accounts": pd.concat(accounts, ignore_index=True).sort_values(["account", "fold", "row"], ignore_index=True),
        "positions": pd.concat([_position_frame(walk, bars) for walk in walks[:-1]], ignore_index=True),
        "trades": pd.concat([_trade_frame(walk, bars) for walk in walks], ignore_index=True),
        "actions": pd.concat([_action_frame(walk, bars) for walk in walks[:-1]], ignore_index=True),
    }


def _stamps(bars: AlignedBars, rows: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(bars.timestamps[rows]).tz_localize("UTC")


def _account_frame(walk: Walk, bars: AlignedBars, fold_of: Mapping[int, int]) -> pd.DataFrame:
    fill, rows = walk.fill, np.arange(*walk.rows)
    before = fill.equity_before.clamp_min(1e-12)
    whole: dict[str, Tensor] = {
        "return": net_returns(fill),
        "equity": fill.equity,
        "gross_exposure": fill.position.abs().sum(-1),
        "net_exposure": fill.position.sum(-1),
        "turnover": fill.traded.sum(-1) / before,
        "price_pnl": fill.price_pnl.sum(-1) / before,
        "commission": fill.commission.sum(-1) / before,
        "spread": fill.spread.sum(-1) / before,
        "capped": fill.cut.double().mean(-1),
    }
    frames = []
    for index, name in enumerate(walk.names):
        frame = pd.DataFrame({column: value[:, index].numpy() for column, value in whole.items()})
        frame.insert(0, "row", rows)
        frame.insert(1, "timestamp", _stamps(bars, rows))
        frame.insert(2, "fold", walk.fold if walk.fold >= 0 else [fold_of.get(int(row), -1) for row in rows])
        frame.insert(3, "account", name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _position_frame(walk: Walk, bars: AlignedBars) -> pd.DataFrame:
    rows = np.arange(*walk.rows)
    count, assets = len(rows), len(bars.symbols)
    frames = []
    for index, name in enumerate(walk.names):
        if name.startswith("seed_"):
            frames.append(
                pd.DataFrame(
                    {
                        "timestamp": np.repeat(_stamps(bars, rows), assets),
                        "symbol": np.tile(np.array(bars.symbols), count),
                        "seed": int(name.removeprefix("seed_")),
                        "fold": walk.fold,
                        "position": walk.fill.position[:, index].reshape(-1).numpy(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _trade_frame(walk: Walk, bars: AlignedBars) -> pd.DataFrame:
    fill = walk.fill
    price = walk.prices.next_open[:, 0]
    trips = round_trips(fill.shares, price, fill.commission + fill.spread, walk.prices.next_close[-1, 0])
    entry, leave = (rows.numpy() + walk.rows.start for rows in (trips.entry_row, trips.exit_row))
    equity = fill.equity_before[trips.entry_row, trips.account]
    return pd.DataFrame(
        {
            "account": np.array(walk.names)[trips.account.numpy()],
            "fold": walk.fold,
            "symbol": np.array(bars.symbols)[trips.asset.numpy()],
            "side": trips.side.numpy(),
            "entry_row": entry,
            "exit_row": leave,
            "entry_timestamp": _stamps(bars, entry),
            "exit_timestamp": _stamps(bars, leave),
            "bars": leave - entry,
            "pnl": trips.pnl.numpy(),
            "return": (trips.pnl / equity.clamp_min(1e-12)).numpy(),
        }
    )


def _action_frame(walk: Walk, bars: AlignedBars) -> pd.DataFrame:
    columns = ["account", "fold", "symbol", "action", "count", "legal"]
    if walk.agents is None or not walk.agents.actions:
        return pd.DataFrame(columns=columns)
    labels = ["hold", *(f"{level:+g}" if level else "0" for level in walk.agents.parameters.levels)]
    taken, legal = torch.stack(walk.agents.actions), torch.stack(walk.agents.legal)  # [S, N, A], [S, N, A, actions]
    frames = [
        pd.DataFrame(
            {
                "account": walk.names[agent],
                "fold": walk.fold,
                "symbol": list(bars.symbols),
                "action": label,
                "count": (taken[:, agent] == action).sum(0).numpy(),
                "legal": legal[:, agent, :, action].sum(0).numpy(),
            }
        )
        for agent in range(taken.shape[1])
        for action, label in enumerate(labels)
    ]
    return pd.concat(frames, ignore_index=True)
