"""Frames of a backtest, built chunk by chunk from the ledger: accounts, positions, round trips, actions, masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.evaluation.backtest.round_trips import RoundTripCutter
from sentio_kedro.evaluation.run_frames import COLUMNS, LINES, SEED_PREFIX
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.trading.accounts import MIN_EQUITY, Fill
from sentio_kedro.trading.action_masks import LAYERS, require_choice
from sentio_kedro.trading.simulate import RUIN, PolicyTrace, Step
from sentio_kedro.trading.step_data import StepData

Frames = dict[str, pd.DataFrame]

NO_FOLD = -1  # of rows that no fold tests


class LedgerRows(NamedTuple):
    """Facts of simulated rows that their ledger does not hold.

    Attributes:
        rows: Decision rows.
        folds: ``[S]`` fold of each row; agents trade the rows of one fold only.
        regimes: ``[S, N]`` likeliest regime under each account's model.
        states: Regimes of the agents' model.
        decided: ``[S]`` false where agents close positions whatever they choose.
    """

    rows: Segment
    folds: NDArray[np.int64]
    regimes: Tensor
    states: int
    decided: Tensor


class LedgerFrames:
    """Collects the frames of one batch of accounts; keeps no more than they hold."""

    def __init__(self, names: Sequence[str], agents: int, bars: AlignedBars, trading: TradingParameters) -> None:
        """Start empty.

        Args:
            names: One name per account; agents, named ``seed_<number>``, come first.
            agents: Number of agents.
            bars: Aligned bars.
            trading: Starting equity and levels.
        """
        self.agents, self.bars, self.cash = agents, bars, trading.initial_cash
        self.names = np.array(names, dtype=object)
        self.symbols = np.array(bars.symbols, dtype=object)
        labels = ["hold", *(f"{level:+g}" if level else "0" for level in trading.levels)]
        self.labels = np.array(labels, dtype=object)
        self.round_trips = RoundTripCutter(len(names), len(bars.symbols))
        self.fold_of = np.full(len(bars.timestamps), NO_FOLD)
        self.accounts: list[pd.DataFrame] = []
        self.positions: list[pd.DataFrame] = []
        self.actions: dict[int, Tensor] = {}  # [2, agents, A, actions] how often taken and how often legal, by fold
        self.masks: dict[int, Tensor] = {}  # [states, agents, layers + 1] sums of shares, and bars, by fold

    def add(self, facts: LedgerRows, step_data: StepData, step: Step) -> None:
        """Add the ledger of a chunk, with telemetry."""
        self.fold_of[slice(*facts.rows)] = facts.folds
        self.round_trips.add(facts.rows.start, step_data, step.fill)
        self.accounts.append(self._account_rows(facts, step.fill))
        if self.agents:
            self.positions.append(self._position_rows(facts, step.fill))
            self._count_actions(facts, step.trace)
            self._add_masks(facts, step.fill)

    def frames(self) -> Frames:
        """Return the frames ``accounts``, ``positions``, ``trades``, ``actions`` and ``masks``."""
        return {
            "accounts": pd.concat(self.accounts, ignore_index=True),
            "positions": _concatenate(self.positions, "positions"),
            "trades": self._trade_frame(),
            "actions": _concatenate([self._action_frame(fold) for fold in self.actions], "actions"),
            "masks": _concatenate([self._mask_frame(fold) for fold in self.masks], "masks"),
        }

    def _timestamps(self, rows: NDArray[np.int64]) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.bars.timestamps[rows]).tz_localize("UTC")

    def _account_rows(self, facts: LedgerRows, fill: Fill) -> pd.DataFrame:
        rows, count = np.arange(*facts.rows), len(self.names)
        columns = {**self._account_columns(fill), "regime": facts.regimes}
        return pd.DataFrame(
            {
                "row": np.tile(rows, count),
                "timestamp": self._timestamps(np.tile(rows, count)),
                "fold": np.tile(facts.folds, count),
                "account": np.repeat(self.names, len(rows)),
                **{name: values.transpose(0, 1).reshape(-1).numpy() for name, values in columns.items()},
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

    def _position_rows(self, facts: LedgerRows, fill: Fill) -> pd.DataFrame:
        rows, assets = np.arange(*facts.rows), len(self.symbols)
        position = _telemetry(fill)[0][:, : self.agents].transpose(0, 1)  # [agents, S, A]
        seeds = [int(name.removeprefix(SEED_PREFIX)) for name in self.names[: self.agents]]
        return pd.DataFrame(
            {
                "timestamp": self._timestamps(np.tile(np.repeat(rows, assets), self.agents)),
                "symbol": np.tile(self.symbols, len(rows) * self.agents),
                "seed": np.repeat(seeds, len(rows) * assets),
                "fold": np.tile(np.repeat(facts.folds, assets), self.agents),
                "position": position.reshape(-1).numpy(),
            }
        )

    def _count_actions(self, facts: LedgerRows, record: PolicyTrace) -> None:
        taken, legal = (x[facts.decided] for x in record)  # [S, agents, A], [S, agents, A, actions]
        require_choice(legal)
        chosen = torch.nn.functional.one_hot(taken, len(self.labels))
        _accumulate(self.actions, facts, torch.stack([chosen.sum(0), legal.long().sum(0)]))

    def _add_masks(self, facts: LedgerRows, fill: Fill) -> None:
        if fill.layers is None:
            raise ValueError("`fill.layers` must be there to count what the mask forbids, was None; ask for telemetry.")
        layers = fill.layers[:, : self.agents]
        shares = torch.cat([layers, torch.ones_like(layers[..., :1])], dim=-1)
        states = torch.arange(facts.states)[:, None, None, None]
        inside = facts.regimes[None, :, : self.agents, None] == states  # [states, S, agents, 1]
        _accumulate(self.masks, facts, torch.where(inside, shares, 0.0).sum(1))

    def _trade_frame(self) -> pd.DataFrame:
        round_trips = self.round_trips.finish()
        equity = np.maximum(round_trips.entry_equity, MIN_EQUITY)
        return pd.DataFrame(
            {
                "account": self.names[round_trips.account],
                "fold": self.fold_of[round_trips.entry_row],
                "symbol": self.symbols[round_trips.asset],
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
                "account": np.repeat(self.names[:agents], actions * assets),
                "fold": fold,
                "symbol": np.tile(self.symbols, agents * actions),
                "action": np.tile(np.repeat(self.labels, assets), agents),
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
                "account": np.repeat(self.names[:agents], states * len(LAYERS)),
                "fold": fold,
                "regime": np.tile(np.repeat(np.arange(states), len(LAYERS)), agents),
                "layer": np.tile(np.array(LAYERS, dtype=object), agents * states),
                "forbidden": (sums[..., :-1] / bars.clamp_min(1.0)).reshape(-1).numpy(),
                "bars": bars.reshape(-1).long().numpy(),
            }
        )
        return frame[frame["bars"] > 0]


def _accumulate(sums: dict[int, Tensor], facts: LedgerRows, values: Tensor) -> None:
    fold = int(facts.folds[0])
    sums[fold] = sums[fold] + values if fold in sums else values


def equity_returns(fill: Fill, cash: float) -> Tensor:
    """Simple returns of equity per step ``[S, ...]``: -1 where nothing is left, 0 afterwards.

    Args:
        fill: Ledger.
        cash: Starting equity, quote currency; a billionth of it counts as nothing.
    """
    solvent = fill.equity_before > cash * RUIN
    return torch.where(solvent, fill.equity / fill.equity_before.clamp_min(MIN_EQUITY) - 1.0, 0.0)


def concatenate_frames(parts: Sequence[Mapping[str, pd.DataFrame]]) -> Frames:
    """Concatenate the frames of several batches; accounts by name, fold and row, positions by fold, seed and time."""
    frames = {name: _concatenate([part[name] for part in parts], name) for name in parts[0]}
    frames["accounts"] = frames["accounts"].sort_values(["account", "fold", "row"], ignore_index=True)
    frames["positions"] = frames["positions"].sort_values(["fold", "seed", "timestamp"], ignore_index=True)
    return frames


def _concatenate(parts: Sequence[pd.DataFrame], name: str) -> pd.DataFrame:
    """Rows of all parts; the types of parts without rows do not count."""
    filled = [part for part in parts if len(part)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return pd.DataFrame(columns=list(parts[0].columns) if parts else list(COLUMNS[name]))


def _telemetry(fill: Fill) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if fill.position is None or fill.ordered is None or fill.capped is None or fill.projected is None:
        raise ValueError("`fill` must hold positions and what limits cut, was None; simulate with telemetry.")
    return fill.position, fill.ordered, fill.capped, fill.projected
