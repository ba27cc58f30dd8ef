"""What every vendor delivers: pages of complete bars as traded, with dividends and splits as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

PRICES = ("open", "high", "low", "close")
COLUMNS = ("timestamp", "symbol", *PRICES, "volume", "dividend", "split")
"""Columns of a page: bar end in UTC, symbol, prices as traded, shares, cash per share after the split, new per old."""

INTERVALS = {
    "1m": pd.Timedelta(minutes=1),
    "5m": pd.Timedelta(minutes=5),
    "15m": pd.Timedelta(minutes=15),
    "30m": pd.Timedelta(minutes=30),
    "1h": pd.Timedelta(hours=1),
    "1d": pd.Timedelta(days=1),
}
"""Lengths of bars by name. A day's bar ends at the UTC midnight after its date, which stands for the date."""


class VendorError(ValueError):
    """A vendor did not deliver bars that can be used; the message tells where, why and the remedy."""


@dataclass(frozen=True)
class Clock:
    """Time and waiting, so that tests need not wait.

    Attributes:
        now: Returns seconds since 1970.
        sleep: Waits for some seconds.
        chance: Returns a number in [0, 1) that spreads the waiting of several processes.
    """

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = lambda: (time.perf_counter_ns() % 1000) / 1000.0


class Vendor(Protocol):
    """A source of bars.

    Attributes:
        source: Name that the store records: vendor, feed or venue, and interval.
        batch: Symbols that one request may ask for.
        always_open: Whether its markets never close, so that every bar is expected.
        rewrites: Whether its prices are adjusted, so that its whole history changes: then all of it is fetched again.
        length: Length of a bar.
    """

    source: str
    batch: int
    always_open: bool
    rewrites: bool
    length: pd.Timedelta

    def fetch(self, symbols: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> Iterator[pd.DataFrame]:
        """Yield pages with ``COLUMNS``, oldest first within each symbol, without an unfinished bar.

        Args:
            symbols: At most ``batch`` symbols.
            start: Bars that begin at this time or later.
            end: Bars that end by this time.

        Raises:
            VendorError: If the vendor does not deliver.
        """
        ...
