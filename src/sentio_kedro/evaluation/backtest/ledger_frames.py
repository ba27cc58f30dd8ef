"""The frames of a backtest, collected piece by piece: what accounts earned and held, their trips, actions and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.evaluation.backtest.round_trips import RoundTripCutter
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.trading.accounts import MIN_EQUITY, Fill
from sentio_kedro.trading.action_masks import LAYERS, require_choice
from sentio_kedro.trading.simulate import RUIN, PolicyTrace, Step
from sentio_kedro.trading.step_data import StepData

Frames = dict[str, pd.DataFrame]

NO_FOLD = -1  # of rows that are in no fold's test
LINES = ("price_pnl", "commission", "spread", "impact", "borrow", "financing", "funding", "dividends", "shortfall")
COLUMNS = {
    "actions": ["account", "fold", "symbol", "action", "count", "legal"],
    "masks": ["account", "fold", "regime", "layer", "forbidden", "bars"],
    "positions": ["timestamp", "symbol", "seed", "fold", "position"],
}


@dataclass(frozen=True)
class Piece:
    """What belongs to the rows of a piece beside its ledger.

    Attributes:
        rows: Decision rows.
        folds: ``[S]`` fold of each row; agents trade the rows of one fold only.
        regimes: ``[S, N]`` likeliest regime under each account's model.
        states: Regimes of the agents' model.
        decided: ``[S]`` whether agents did what they chose: false where positions are left.
    """

    rows: Segment
    folds: NDArray[np.int64]
    regimes: Tensor
    states: int
    decided: Tensor


class LedgerFrames:
    """Collects the frames of one batch of accounts; keeps no more than they hold."""

    def __init__(
        self, names: Sequence[str], agents: int, cash: float, bars: AlignedBars, levels: Sequence[float]
    ) -> None:
        """Start empty.

        Args:
            names: One name per account; agents, named ``seed_<number>``, come first.
            agents: How many of them are agents.
            cash: Starting equity, quote currency.
            bars: Aligned bars.
            levels: Levels that actions stand for.
        """
        self.names, self.agents, self.cash, self.bars = list(names), agents, cash, bars
        self.labels = ["hold", *(f"{level:+g}" if level else "0" for level in levels)]
        self.round_trips = RoundTripCutter(len(names), len(bars.symbols))
        self.fold_of = np.full(len(bars.timestamps), NO_FOLD)
        self.accounts: list[pd.DataFrame] = []
        self.positions: list[pd.DataFrame] = []
        self.actions: dict[int, Tensor] = {}  # [2, agents, A, actions] how often taken and how often legal, by fold
        self.masks: dict[int, Tensor] = {}  # [states, agents, layers + 1] sums of shares, and bars, by fold

    def add(self, piece: Piece, step_data: StepData, step: Step) -> None:
        """Add the ledger of a piece, with telemetry."""
        self.fold_of[slice(*piece.rows)] = piece.folds
        self.round_trips.add(piece.rows.start, step_data, step.fill)
        self.accounts.append(self._account_rows(piece, step.fill))
        if self.agents:
            self.positions.append(self._position_rows(piece, step.fill))
            self._count_actions(piece, step.trace)
            self._add_masks(piece, step.fill)

    def frames(self) -> Frames:
        """Return the frames ``accounts``, ``positions``, ``trades``, ``actions`` and ``masks``."""
        return {
            "accounts": pd.concat(self.accounts, ignore_index=True),
            "positions": _joined(self.positions, "positions"),
            "trades": self._trade_frame(),
            "actions": _joined([self._action_frame(fold) for fold in self.actions], "actions"),
            "masks": _joined([self._mask_frame(fold) for fold in self.masks], "masks"),
        }

    def _timestamps(self, rows: NDArray[np.int64]) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.bars.timestamps[rows]).tz_localize("UTC")

    def _account_rows(self, piece: Piece, fill: Fill) -> pd.DataFrame:
        rows, count = np.arange(*piece.rows), len(self.names)
        by_account = self._account_columns(fill)
        values = {name: column.transpose(0, 1).reshape(-1).numpy() for name, column in by_account.items()}
        return pd.DataFrame(
            {
                "row": np.tile(rows, count),
                "timestamp": pd.DatetimeIndex(np.tile(self.bars.timestamps[rows], count)).tz_localize("UTC"),
                "fold": np.tile(piece.folds, count),
                "account": np.repeat(np.array(self.names, dtype=object), len(rows)),
                **values,
                "regime": piece.regimes.transpose(0, 1).reshape(-1).numpy(),
            }
        )

    def _account_columns(self, fill: Fill) -> dict[str, Tensor]:
        """Columns ``[S, N]``; money as fractions of the equity at the decision."""
        before = fill.equity_before.clamp_min(MIN_EQUITY)
        zeros = torch.zeros_like(before)
        position, ordered, capped, projected = _telemetry(fill)
        lines = {}
        for name in LINES:
            line = getattr(fill, name)
            line = zeros if line is None else line
            lines[name] = (line if line.dim() == before.dim() else line.sum(-1)) / before
        return {
            "return": equity_returns(fill, self.cash),
            "equity": fill.equity,
            "gross_exposure": position.abs().sum(-1),
            "net_exposure": position.sum(-1),
            "turnover": fill.traded.sum(-1) / before,
            **lines,
            "capped": capped.double().mean(-1),
            "projected": projected.double().mean(-1),
            "ordered": ordered.double().mean(-1),
            "headroom": fill.headroom,
            "called": torch.zeros_like(zeros, dtype=torch.bool) if fill.called is None else fill.called,
        }

    def _position_rows(self, piece: Piece, fill: Fill) -> pd.DataFrame:
        rows, assets = np.arange(*piece.rows), len(self.bars.symbols)
        position = _telemetry(fill)[0][:, : self.agents].transpose(0, 1)  # [agents, S, A]
        seeds = [int(name.removeprefix("seed_")) for name in self.names[: self.agents]]
        timestamps = np.repeat(self.bars.timestamps[rows], assets)
        return pd.DataFrame(
            {
                "timestamp": pd.DatetimeIndex(np.tile(timestamps, self.agents)).tz_localize("UTC"),
                "symbol": np.tile(np.array(self.bars.symbols, dtype=object), len(rows) * self.agents),
                "seed": np.repeat(seeds, len(rows) * assets),
                "fold": np.tile(np.repeat(piece.folds, assets), self.agents),
                "position": position.reshape(-1).numpy(),
            }
        )

    def _count_actions(self, piece: Piece, record: PolicyTrace) -> None:
        taken, legal = (x[piece.decided] for x in record)  # [S, agents, A], [S, agents, A, actions]
        require_choice(legal)
        chosen = torch.nn.functional.one_hot(taken, len(self.labels))
        counts = torch.stack([chosen.sum(0), legal.long().sum(0)])
        fold = int(piece.folds[0])
        self.actions[fold] = self.actions[fold] + counts if fold in self.actions else counts

    def _add_masks(self, piece: Piece, fill: Fill) -> None:
        if fill.layers is None:
            raise ValueError("`fill.layers` must be there to count what the mask forbids, was None; ask for telemetry.")
        layers = fill.layers[:, : self.agents]
        shares = torch.cat([layers, torch.ones_like(layers[..., :1])], dim=-1)
        states = torch.arange(piece.states)[:, None, None, None]
        inside = piece.regimes[None, :, : self.agents, None] == states  # [states, S, agents, 1]
        sums = torch.where(inside, shares, 0.0).sum(1)
        fold = int(piece.folds[0])
        self.masks[fold] = self.masks[fold] + sums if fold in self.masks else sums

    def _trade_frame(self) -> pd.DataFrame:
        round_trips = self.round_trips.finish()
        equity = np.maximum(round_trips.entry_equity, MIN_EQUITY)
        return pd.DataFrame(
            {
                "account": np.array(self.names, dtype=object)[round_trips.account],
                "fold": self.fold_of[round_trips.entry_row],
                "symbol": np.array(self.bars.symbols, dtype=object)[round_trips.asset],
                "side": round_trips.side,
                "entry_row": round_trips.entry_row,
                "exit_row": round_trips.exit_row,
                "entry_timestamp": self._timestamps(round_trips.entry_row),
                "exit_timestamp": self._timestamps(round_trips.exit_row),
                "bars": round_trips.exit_row - round_trips.entry_row,
                "pnl": round_trips.pnl,
                "return": round_trips.pnl / equity,
                "cost": round_trips.cost / equity,
            }
        )

    def _action_frame(self, fold: int) -> pd.DataFrame:
        counts = self.actions[fold].permute(1, 3, 2, 0)  # [agents, actions, A, 2]
        agents, actions, assets, _ = counts.shape
        return pd.DataFrame(
            {
                "account": np.repeat(np.array(self.names[:agents], dtype=object), actions * assets),
                "fold": fold,
                "symbol": np.tile(np.array(self.bars.symbols, dtype=object), agents * actions),
                "action": np.tile(np.repeat(np.array(self.labels, dtype=object), assets), agents),
                "count": counts[..., 0].reshape(-1).numpy(),
                "legal": counts[..., 1].reshape(-1).numpy(),
            }
        )

    def _mask_frame(self, fold: int) -> pd.DataFrame:
        sums = self.masks[fold].transpose(0, 1)  # [agents, states, layers + 1]
        agents, states, _ = sums.shape
        bars = sums[..., -1:].expand(agents, states, len(LAYERS))
        frame = pd.DataFrame(
            {
                "account": np.repeat(np.array(self.names[:agents], dtype=object), states * len(LAYERS)),
                "fold": fold,
                "regime": np.tile(np.repeat(np.arange(states), len(LAYERS)), agents),
                "layer": np.tile(np.array(LAYERS, dtype=object), agents * states),
                "forbidden": (sums[..., :-1] / bars.clamp_min(1.0)).reshape(-1).numpy(),
                "bars": bars.reshape(-1).long().numpy(),
            }
        )
        return frame[frame["bars"] > 0]


def equity_returns(fill: Fill, cash: float) -> Tensor:
    """Simple returns of equity per step ``[S, ...]``: -1 where nothing is left, 0 afterwards.

    Args:
        fill: Ledger of a piece of a walk.
        cash: Equity at the start of the walk, quote currency; a billionth of it counts as nothing.
    """
    owned = fill.equity_before > cash * RUIN
    return torch.where(owned, fill.equity / fill.equity_before.clamp_min(MIN_EQUITY) - 1.0, 0.0)


def concatenated(parts: Sequence[Frames]) -> Frames:
    """Join the frames of several batches; accounts in order of name, fold and row, positions of fold, seed and time."""
    joined = {name: _joined([part[name] for part in parts], name) for name in parts[0]}
    joined["accounts"] = joined["accounts"].sort_values(["account", "fold", "row"], ignore_index=True)
    joined["positions"] = joined["positions"].sort_values(["fold", "seed", "timestamp"], ignore_index=True)
    return joined


def _joined(parts: Sequence[pd.DataFrame], name: str) -> pd.DataFrame:
    """Rows of all parts; parts without rows say nothing about types."""
    filled = [part for part in parts if len(part)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return pd.DataFrame(columns=list(parts[0].columns) if parts else COLUMNS[name])


def _telemetry(fill: Fill) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if fill.position is None or fill.ordered is None or fill.capped is None or fill.projected is None:
        raise ValueError("`fill` must tell positions and what limits cut, was None; walk with telemetry.")
    return fill.position, fill.ordered, fill.capped, fill.projected
