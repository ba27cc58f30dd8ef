"""The live account as a journal tells it, on the rows of its bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps
from sentio_kedro.trading.records import Integers

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "accounts": ("stamp", "equity", "cash", "transfers"),
    "trades": ("bar", "order", "symbol", "shares", "price", "fee", "commission", "spread", "impact"),
    "decisions": ("stamp", "symbol", "action", "outcome", "reason"),
}
"""Columns that are read of a journal's frames."""


class JournalFrames(NamedTuple):
    """Frames of a journal.

    Attributes:
        accounts: One row per decision: ``stamp`` (end of the bar), ``equity``, ``cash`` and ``transfers`` (cash that a
            person moved in since the row before).
        trades: One row per fill; ``bar`` is the stamp of the first account that holds it. ``commission``, ``spread``
            and ``impact`` are those of simulated fills, 0 otherwise; a simulated exit of a stop has no ``order``.
        decisions: One row per decision and symbol.
        bars: As decided on; ``timestamp`` is the end of the bar.
    """

    accounts: pd.DataFrame
    trades: pd.DataFrame
    decisions: pd.DataFrame
    bars: pd.DataFrame

    @classmethod
    def since(
        cls,
        first: pd.Timestamp,
        accounts: pd.DataFrame,
        trades: pd.DataFrame,
        decisions: pd.DataFrame,
        bars: pd.DataFrame,
    ) -> JournalFrames:
        """Keep what came after a first decision, and fills that an account has already.

        Raises:
            ValueError: If columns are missing, or fewer than two decisions are left.
        """
        given = cls(accounts, trades, decisions, bars)
        given._require_columns()
        frames = cls(
            accounts[accounts["stamp"] >= first].sort_values("stamp", ignore_index=True),
            trades[trades["bar"] > first].reset_index(drop=True),
            decisions[decisions["stamp"] >= first].reset_index(drop=True),
            bars[bars["timestamp"] >= first].reset_index(drop=True),
        )
        if len(frames.accounts) < 2:  # noqa: PLR2004 - a return needs two
            raise ValueError(
                f"The journal must hold at least 2 decisions of its present model, held {len(frames.accounts)}; let "
                "`kedro trader run` trade some bars first."
            )
        return frames

    def _require_columns(self) -> None:
        for name, columns in COLUMNS.items():
            missing = [column for column in columns if column not in getattr(self, name).columns]
            if missing:
                raise ValueError(f"`live_{name}` lacks the columns {missing}; read the journal by its dataset.")


class Fills(NamedTuple):
    """Sums of the fills between two rows, ``[R, A]`` each, quote currency but for shares.

    Attributes:
        shares: Signed.
        value: Sum of shares times price.
        fee: Fees of the venue, and commissions of simulated fills.
        spread: Spread and impact of simulated fills.
    """

    shares: Floats
    value: Floats
    fee: Floats
    spread: Floats


class LiveAccount(NamedTuple):
    """A live account. R rows lie between the first and the last of its T + 1 decisions.

    Attributes:
        stamps: ``[T + 1]`` ends of the bars of its decisions.
        rows: ``[T + 1]`` rows of the decisions among the R + 1 rows.
        equity: ``[T + 1]``.
        cash: ``[T + 1]``.
        transfers: ``[T]`` cash that a person moved in until the next decision.
        opening: ``[A]`` shares at the first decision.
        ordered: Fills of orders.
        exits: Simulated exits of stops, which the execution step priced itself.
    """

    stamps: Timestamps
    rows: Integers
    equity: Floats
    cash: Floats
    transfers: Floats
    opening: Floats
    ordered: Fills
    exits: Fills

    def between(self, values: Floats) -> Floats:
        """Sum values by row ``[R, ...]`` from decision to decision, ``[T, ...]``."""
        return np.add.reduceat(values, self.rows[:-1], axis=0)


def stamps_of(column: pd.Series) -> Timestamps:
    """Return ends of bars as datetime64[ns], UTC, from text or timestamps."""
    return np.asarray(pd.DatetimeIndex(pd.to_datetime(column, utc=True)).tz_localize(None), dtype="datetime64[ns]")


def live_account(
    frames: JournalFrames, timestamps: Timestamps, symbols: Sequence[str], opening: Mapping[str, float]
) -> LiveAccount:
    """Put an account on the rows of its bars.

    Args:
        frames: Frames of the journal.
        timestamps: ``[R + 1]`` ends of the bars from its first to its last decision.
        symbols: A assets.
        opening: Shares by symbol at the first decision.

    Raises:
        ValueError: If a fill is of another symbol or of no row.
    """
    accounts = frames.accounts
    stamps = stamps_of(accounts["stamp"])
    trades, count = frames.trades, len(timestamps) - 1
    place = pd.Index(list(symbols)).get_indexer(pd.Index(trades["symbol"]))
    row = np.searchsorted(timestamps, stamps_of(trades["bar"])) - 1
    lost = (place < 0) | (row >= count)
    if lost.any():
        first = trades[lost].iloc[0]
        raise ValueError(
            f"A fill of {first['symbol']} at {first['bar']} is of no symbol or bar of the agents, which trade "
            f"{list(symbols)} until {np.datetime_as_string(timestamps[-1], unit='s')}Z; name their model in "
            "`trader.model`."
        )
    simulated = trades[["commission", "spread", "impact"]].fillna(0.0)
    own = ((trades["order"].fillna("") == "") & (simulated.sum(axis=1) != 0.0)).to_numpy()

    def sums(which: np.ndarray) -> Fills:
        shares, price, fee = (trades[name].fillna(0.0).to_numpy(np.float64) for name in ("shares", "price", "fee"))
        values = (
            shares,
            shares * price,
            fee + simulated["commission"].to_numpy(np.float64),
            simulated[["spread", "impact"]].sum(axis=1).to_numpy(np.float64),
        )
        tables = [np.zeros((count, len(symbols))) for _ in values]
        for table, each in zip(tables, values, strict=True):
            np.add.at(table, (row[which], place[which]), each[which])
        return Fills(*tables)

    return LiveAccount(
        stamps=stamps,
        rows=np.searchsorted(timestamps, stamps),
        equity=accounts["equity"].to_numpy(np.float64),
        cash=accounts["cash"].to_numpy(np.float64),
        transfers=accounts["transfers"].fillna(0.0).to_numpy(np.float64)[1:],
        opening=np.array([opening.get(symbol, 0.0) for symbol in symbols]),
        ordered=sums(~own),
        exits=sums(own),
    )
