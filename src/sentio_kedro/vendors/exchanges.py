"""Crypto exchanges by the package ccxt: pages forward in time that overlap by a bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pandas as pd

from sentio_kedro.vendors.contract import INTERVALS, PRICES, VendorError
from sentio_kedro.vendors.pages import inside, page
from sentio_kedro.vendors.transport import Transport

_LIMIT = 1000  # bars of a page; exchanges that give fewer are asked more often
_MILLISECOND = 1_000_000  # nanoseconds


class Exchange:
    """Spot bars of an exchange that ccxt knows."""

    batch = 1
    always_open = True
    rewrites = False

    def __init__(self, interval: str, venue: str, transport: Transport, url: str | None = None) -> None:
        """Take the length of a bar, ccxt's name of the exchange, and another address, if any.

        Raises:
            VendorError: If ccxt does not know the exchange, or it has no bars of this length.
        """
        import ccxt  # noqa: PLC0415 - of the extra `data`

        if venue not in ccxt.exchanges:
            raise VendorError(
                f"`vendor` must name an exchange of ccxt, was 'ccxt.{venue}'; write ccxt.binance or another."
            )
        self.source, self.length = f"ccxt-{venue}-{interval}", INTERVALS[interval]
        options = {"enableRateLimit": False, "options": {"fetchMarkets": {"types": ["spot"]}}}
        self._exchange = getattr(ccxt, venue)(options)
        if interval not in (self._exchange.timeframes or {}):
            have = ", ".join(name for name in INTERVALS if name in (self._exchange.timeframes or {}))
            raise VendorError(f"`interval` must be one of {have} at {venue}, was {interval!r}; change it.")
        if url:
            self._exchange.urls["api"] = moved(self._exchange.urls["api"], url)
        self._failed = ccxt.BaseError
        self._interval, self._transport = interval, transport
        self._ahead: float | None = None  # seconds that the exchange's clock is before ours
        transport.attach(self._exchange.session)

    def fetch(self, symbols: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> Iterator[pd.DataFrame]:
        """Yield pages as the contract says; each begins with the bar that the one before ended with."""
        (symbol,) = symbols
        end = min(end, self._now())
        bars = self._bars(symbol, start)
        while len(bars):
            delivered = inside(bars, start, end, self.length)
            if len(delivered):
                yield delivered
            last = bars["timestamp"].iloc[-1]
            if last >= end:
                return
            bars = self._bars(symbol, last - self.length)
            bars = bars[bars["timestamp"] > last]  # a page one bar short is made up for by the next

    def _bars(self, symbol: str, begin: pd.Timestamp) -> pd.DataFrame:
        try:
            rows = self._exchange.fetch_ohlcv(symbol, self._interval, since=begin.value // _MILLISECOND, limit=_LIMIT)
        except self._failed as error:
            raise VendorError(
                f"`{self.source}` must have bars of {symbol}, says: {type(error).__name__} {error}; check the symbol "
                "(ccxt writes BTC/USDT) and `interval`."
            ) from None
        frame = pd.DataFrame(rows, columns=["begin", *PRICES, "volume"])
        ends = pd.DatetimeIndex(pd.to_datetime(frame["begin"], unit="ms", utc=True)) + self.length
        return page(symbol, ends, frame)

    def _now(self) -> pd.Timestamp:
        """Return the time at the exchange, which decides whether a bar has ended."""
        ours = self._transport.clock.now()
        if self._ahead is None:
            try:
                told = self._exchange.fetch_time() / 1000.0
            except (VendorError, TypeError, self._failed):  # not every exchange tells it; its answers are dated
                told = self._transport.now()
            self._ahead = told - ours
        return pd.Timestamp(ours + self._ahead, unit="s", tz="UTC")


def moved(address: Any, url: str) -> Any:
    """Return ccxt's addresses with another scheme and host.

    Args:
        address: An address, or addresses by name to any depth.
        url: Whose scheme and host they get.
    """
    if isinstance(address, dict):
        return {name: moved(one, url) for name, one in address.items()}
    base, parts = urlsplit(url), urlsplit(str(address))
    return urlunsplit((base.scheme, base.netloc, parts.path, "", ""))
