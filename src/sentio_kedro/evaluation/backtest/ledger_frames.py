"""Frames of a backtest, built chunk by chunk from the ledger: accounts, positions, round trips, actions, masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import TradingParameters
from sentio_kedro.evaluation.backtest.round_trips import RoundTripCutter
from sentio_kedro.evaluation.run_frames import COLUMNS, LINES
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.trading.records import LAYERS, Accounts, Integers, Market, Records
from sentio_kedro.trading.simulate import RUIN
from sentio_kedro.trading.step.limits import MIN_EQUITY
from sentio_kedro.trading.step.walk import Ledger

Frames = dict[str, pd.DataFrame]

NO_FOLD = -1  # of rows that no fold tests


class LedgerRows(NamedTuple):
    """Facts of simulated rows that their ledger does not hold.

    Attributes:
        rows: Decision rows.
        folds: ``[S]`` fold of each row; agents trade the rows of one fold only.
        regimes: ``[S, N]`` likeliest regime under each account's model.
        states: Regimes of the agents' model.
    """

    rows: Segment
    folds: Integers
    regimes: Integers
    states: int


class LedgerFrames:
    """Collects the frames of one batch of accounts; keeps no more than they hold."""

    def __init__(self, names: Sequence[str], agents: int, bars: AlignedBars, trading: TradingParameters) -> None:
        """Start empty.

        Args:
            names: One name per account.
            agents: Accounts, the first ones, whose positions, actions and masks are recorded.
            bars: Aligned bars.
            trading: Starting equity and levels.
        """
        self.agents, self.bars, self.cash = agents, bars, trading.initial_cash
        self.names = np.array(names, dtype=object)
        self.symbols = np.array(bars.symbols, dtype=object)
        self.labels = np.array([f"{level:+g}" if level else "0" for level in trading.levels], dtype=object)
        self.round_trips = RoundTripCutter(len(names), len(bars.symbols))
        self.fold_of = np.full(len(bars.timestamps), NO_FOLD)
        self.inside = None if bars.leavers is None else bars.present & ~bars.rejoins  # [T, A] of dated members
        self.accounts: list[pd.DataFrame] = []
        self.positions: list[pd.DataFrame] = []
        self.states: list[dict[str, object]] = []
        self.actions: dict[int, Integers] = {}  # [2, agents, A, B] how often taken and how often legal, by fold
        self.holdings: dict[int, Floats] = {}  # [4, N, A] sums over rows, by fold
        self.bars_of: dict[int, int] = {}
        self.masks: dict[int, Floats] = {}  # [states, agents, layers + 1] sums of shares, and bars, by fold

    def begin(self, fold: int, row: int, accounts: Accounts) -> None:
        """Keep the whole state of the first agents' account at the close of the first ``row`` of a test segment."""
        if self.agents:
            timestamp = self.bars.timestamps[row]
            self.states.append({"fold": fold, "timestamp": timestamp, "account": accounts.part(0).copy()})

    def add(self, facts: LedgerRows, market: Market, ledger: Ledger) -> None:
        """Add the ledger of a chunk, with telemetry."""
        self.fold_of[slice(*facts.rows)] = facts.folds
        self.round_trips.add(facts.rows.start, market.facts, ledger)
        self.accounts.append(self._account_rows(facts, ledger))
        self._add_holdings(facts, market.facts, ledger)
        if self.agents:
            self.positions.append(self._position_rows(facts, ledger.fills))
            self._count_actions(facts, ledger)
            self._add_masks(facts, ledger.layers)

    def frames(self) -> Frames:
        """Return ``accounts``, ``positions``, ``trades``, ``holdings``, ``actions``, ``masks`` and ``states``."""
        return {
            "accounts": pd.concat(self.accounts, ignore_index=True),
            "positions": _concatenate(self.positions, "positions"),
            "trades": self._trade_frame(),
            "holdings": _concatenate([self._holding_frame(fold) for fold in self.holdings], "holdings"),
            "actions": _concatenate([self._action_frame(fold) for fold in self.actions], "actions"),
            "masks": _concatenate([self._mask_frame(fold) for fold in self.masks], "masks"),
            "states": pd.DataFrame(self.states, columns=["fold", "timestamp", "account"]),
        }

    def _timestamps(self, rows: NDArray[np.int64]) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.bars.timestamps[rows]).tz_localize("UTC")

    def _account_rows(self, facts: LedgerRows, ledger: Ledger) -> pd.DataFrame:
        rows, count = np.arange(*facts.rows), len(self.names)
        columns = {**self._account_columns(ledger), "regime": facts.regimes}
        return pd.DataFrame(
            {
                "row": np.tile(rows, count),
                "timestamp": self._timestamps(np.tile(rows, count)),
                "fold": np.tile(facts.folds, count),
                "account": np.repeat(self.names, len(rows)),
                **{name: values.T.reshape(-1) for name, values in columns.items()},
            }
        )

    def _account_columns(self, ledger: Ledger) -> dict[str, NDArray[np.generic]]:
        """Columns ``[S, N]``; money as fractions of the equity at the decision."""
        fills, total = ledger.fills, ledger.total
        before = np.maximum(total.equity_before, MIN_EQUITY)
        of_account = {"financing": total.financing, "shortfall": total.shortfall}
        money = {name: of_account[name] if name in of_account else fills[name].sum(-1) for name in LINES}
        return {
            "return": equity_returns(total, self.cash),
            "equity": total.equity,
            "gross_exposure": np.abs(fills.position).sum(-1),
            "net_exposure": fills.position.sum(-1),
            "turnover": fills.traded.sum(-1) / before,
            **{name: line / before for name, line in money.items()},
            **{name: fills[name].mean(-1) for name in ("capped", "projected", "ordered")},
            "headroom": total.headroom,
            "called": total.called,
        }

    def _position_rows(self, facts: LedgerRows, fills: Records) -> pd.DataFrame:
        rows, assets = np.arange(*facts.rows), len(self.symbols)
        position = fills.position[:, : self.agents].swapaxes(0, 1)  # [agents, S, A]
        return pd.DataFrame(
            {
                "timestamp": self._timestamps(np.tile(np.repeat(rows, assets), self.agents)),
                "symbol": np.tile(self.symbols, len(rows) * self.agents),
                "account": np.repeat(self.names[: self.agents], len(rows) * assets),
                "fold": np.tile(np.repeat(facts.folds, assets), self.agents),
                "position": position.reshape(-1),
            }
        )

    def _add_holdings(self, facts: LedgerRows, market: Records, ledger: Ledger) -> None:
        """Sum what each account held in each asset, and what the asset returned, of the rows that a fold tests."""
        fills, before = ledger.fills, np.maximum(ledger.total.equity_before, MIN_EQUITY)[..., None]
        returned = (market.next_close + market.dividend) * market.split / market.close - 1.0  # [S, A]
        listed = self.bars.present.argmax(axis=0) <= np.arange(*facts.rows)[:, None]
        returned = np.where(listed, returned, 0.0)  # prices before an asset's first bar are placeholders
        if self.inside is not None:  # nor did an asset return anything to anyone where it was no member
            returned = np.where(self.inside[np.arange(*facts.rows) + 1], returned, 0.0)
        gross = (fills.price_pnl + fills.dividends) / before
        held = fills.position, np.broadcast_to(returned[:, None], gross.shape), gross, fills.traded > 0.0
        for fold in np.unique(facts.folds[facts.folds != NO_FOLD]).tolist():
            rows = facts.folds == fold
            sums = np.stack([values[rows].sum(axis=0) for values in held])
            self.holdings[fold] = self.holdings[fold] + sums if fold in self.holdings else sums
            self.bars_of[fold] = self.bars_of.get(fold, 0) + int(rows.sum())

    def _holding_frame(self, fold: int) -> pd.DataFrame:
        sums, bars, assets = self.holdings[fold], self.bars_of[fold], len(self.symbols)
        position, returned, gross, changed = sums.reshape(4, -1)
        return pd.DataFrame(
            {
                "account": np.repeat(self.names, assets),
                "fold": fold,
                "symbol": np.tile(self.symbols, len(self.names)),
                "bars": bars,
                "position": position / bars,
                "asset_return": returned,
                "gross": gross,
                "changed": changed.astype(np.int64),
            }
        )

    def _count_actions(self, facts: LedgerRows, ledger: Ledger) -> None:
        """Count decisions among several legal levels; an asset that cannot be traded leaves only one."""
        taken, legal = ledger.actions[:, : self.agents], ledger.legal[:, : self.agents]
        decided = (taken >= 0) & (legal.sum(-1) > 1)  # [S, agents, A]
        chosen = taken[..., None] == np.arange(len(self.labels))
        _accumulate(self.actions, facts, np.stack([(x & decided[..., None]).sum(0) for x in (chosen, legal)]))

    def _add_masks(self, facts: LedgerRows, layers: Floats) -> None:
        layers = layers[:, : self.agents]
        shares = np.concatenate([layers, np.ones_like(layers[..., :1])], axis=-1)
        inside = facts.regimes[None, :, : self.agents, None] == np.arange(facts.states)[:, None, None, None]
        _accumulate(self.masks, facts, np.where(inside, shares, 0.0).sum(1))

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
        counts = self.actions[fold].transpose(1, 3, 2, 0)  # [agents, B, A, 2]
        agents, actions, assets, _ = counts.shape
        return pd.DataFrame(
            {
                "account": np.repeat(self.names[:agents], actions * assets),
                "fold": fold,
                "symbol": np.tile(self.symbols, agents * actions),
                "action": np.tile(np.repeat(self.labels, assets), agents),
                "count": counts[..., 0].reshape(-1),
                "legal": counts[..., 1].reshape(-1),
            }
        )

    def _mask_frame(self, fold: int) -> pd.DataFrame:
        sums = self.masks[fold].swapaxes(0, 1)  # [agents, states, layers + 1]
        agents, states, _ = sums.shape
        bars = sums[..., -1:].repeat(len(LAYERS), axis=-1)
        frame = pd.DataFrame(
            {
                "account": np.repeat(self.names[:agents], states * len(LAYERS)),
                "fold": fold,
                "regime": np.tile(np.repeat(np.arange(states), len(LAYERS)), agents),
                "layer": np.tile(np.array(LAYERS, dtype=object), agents * states),
                "forbidden": (sums[..., :-1] / np.maximum(bars, 1.0)).reshape(-1),
                "bars": bars.reshape(-1).astype(np.int64),
            }
        )
        return frame[frame["bars"] > 0]


def _accumulate(sums: dict[int, Any], facts: LedgerRows, values: NDArray[Any]) -> None:
    fold = int(facts.folds[0])
    sums[fold] = sums[fold] + values if fold in sums else values


def equity_returns(total: Records, cash: float) -> Floats:
    """Simple returns of equity per step ``[S, N]``: -1 where nothing is left, 0 afterwards.

    Args:
        total: Ledger of the accounts, records ``TOTAL``.
        cash: Starting equity, quote currency; a billionth of it counts as nothing.
    """
    solvent = total.equity_before > cash * RUIN
    return np.where(solvent, total.equity / np.maximum(total.equity_before, MIN_EQUITY) - 1.0, 0.0)


def concatenate_frames(parts: Sequence[Mapping[str, pd.DataFrame]]) -> Frames:
    """Concatenate the frames of several batches; accounts by name, fold and row, positions by fold and time."""
    frames = {name: _concatenate([part[name] for part in parts], name) for name in parts[0]}
    frames["accounts"] = frames["accounts"].sort_values(["account", "fold", "row"], ignore_index=True)
    frames["positions"] = frames["positions"].sort_values(["fold", "timestamp"], ignore_index=True)
    return frames


def _concatenate(parts: Sequence[pd.DataFrame], name: str) -> pd.DataFrame:
    """Rows of all parts; the types of parts without rows do not count."""
    filled = [part for part in parts if len(part)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return pd.DataFrame(columns=list(parts[0].columns) if parts else list(COLUMNS[name]))
