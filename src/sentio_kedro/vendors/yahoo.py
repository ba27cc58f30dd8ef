"""Yahoo Finance by the package yfinance, its split adjustment undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd

from sentio_kedro.vendors.contract import INTERVALS, PRICES, VendorError
from sentio_kedro.vendors.pages import as_traded, date_ends, inside, page
from sentio_kedro.vendors.transport import TIMEOUT, Transport

_HOST = "https://query2.finance.yahoo.com"
_CHART = "/v8/finance/chart/"
_DAY = pd.Timedelta(days=1)
_SPAN = {"1m": pd.Timedelta(days=7)}  # that Yahoo answers at once; it keeps 30 days of minutes, 60 of 5 to 30
_INTRADAY_SPAN = pd.Timedelta(days=50)


class Yahoo:
    """Bars of Yahoo Finance.

    Yahoo divides prices and dividends by every later split up to today, so splits are asked for up to today whatever
    the span. Its own repairs are off: they invent splits.
    """

    batch = 1
    always_open = False
    rewrites = False

    def __init__(self, interval: str, transport: Transport, url: str | None = None) -> None:
        """Take the length of a bar and another address than Yahoo's, if any."""
        import yfinance  # noqa: PLC0415 - of the extra `data`
        from yfinance.data import YfData, new_session  # noqa: PLC0415

        self.source, self.length = f"yfinance-{interval}", INTERVALS[interval]
        self._interval, self._transport = interval, transport
        self._ticker, self._cached = yfinance.Ticker, YfData.cache_get
        self._no_bars = yfinance.exceptions.YFPricesMissingError
        yfinance.config.debug.hide_exceptions = False  # else what fails is an empty frame
        self._session = new_session()
        transport.attach(
            self._session,
            partial(_moved, url=url),
            lambda target: _CHART in target,  # the others give cookies
            keys=("chart",),
            own=(401, 403),  # then yfinance asks for another cookie
        )
        if url:
            data = YfData(session=self._session)
            data._cookie, data._crumb = True, ""  # which only Yahoo gives

    def fetch(self, symbols: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> Iterator[pd.DataFrame]:
        """Yield pages as the contract says; daily bars are one page."""
        (symbol,) = symbols
        daily = self._history(symbol, "1d", start - _DAY, None)
        if self._interval == "1d":
            yield self._page(symbol, daily, daily, start, end)
            return
        span = _SPAN.get(self._interval, _INTRADAY_SPAN)
        while start < end:
            stop = min(start + span, end)
            yield self._page(symbol, self._history(symbol, self._interval, start, stop), daily, start, stop)
            start = stop

    def _history(self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp | None) -> pd.DataFrame:
        self._cached.cache_clear()  # of earlier answers, which could not be asked for again
        ticker = self._ticker(symbol, session=self._session)
        ticker._tz = "UTC"  # of `start` and `end`: saves a request a symbol
        try:
            frame: pd.DataFrame = ticker.history(
                interval=interval,
                start=start.to_pydatetime(),
                end=None if end is None else end.to_pydatetime(),
                auto_adjust=False,
                back_adjust=False,
                repair=False,
                actions=True,
                prepost=False,
                keepna=True,
                timeout=TIMEOUT,
            )
        except VendorError:
            raise
        except (self._no_bars, ValueError) as error:  # a ValueError is an answer of 401 or 403 that is no JSON
            raise VendorError(
                f"`yfinance` must have bars of {symbol} since {start:%Y-%m-%d} at `interval` {interval}, says: "
                f"{error}; check the symbol as finance.yahoo.com writes it, and `start`."
            ) from None
        return frame

    def _page(
        self, symbol: str, frame: pd.DataFrame, daily: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp
    ) -> pd.DataFrame:
        """Return the bars of a frame of yfinance; ``daily`` has the splits."""
        names = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
        values = frame.rename(columns={**names, "Dividends": "dividend"})[[*PRICES, "volume", "dividend"]]
        splits = daily["Stock Splits"]
        splits = splits[splits > 0.0]
        values.index, splits.index = (_dates(index) for index in (values.index, splits.index))
        values = as_traded(values, splits)
        days = self.length == _DAY
        begins = pd.DatetimeIndex(frame.index)
        ends = date_ends(begins) if days else begins.tz_convert("UTC") + self.length
        own = frame["Stock Splits"]
        acts = ((values["dividend"] > 0.0) | (own > 0.0).to_numpy()).to_numpy()
        events = pd.DataFrame(
            {"end": ends[acts], "dividend": values["dividend"][acts].to_numpy(), "split": _ratios(own)[acts]}
        )
        now = pd.Timestamp(self._transport.now(), unit="s", tz="UTC")
        return inside(page(symbol, ends, values, events), start, min(end, now), self.length)


def _moved(asked: str, url: str | None) -> str:
    """Return the address to send to.

    Raises:
        ConnectionError: If it is not the one of bars, and ``url`` stands for Yahoo: nothing else is asked then.
    """
    if url is None:
        return asked
    if not asked.startswith(_HOST + _CHART):
        raise ConnectionError(f"{asked} is not asked while `url` is set")
    return asked.replace(_HOST, url.rstrip("/"))


def _dates(index: Any) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(index.tz_localize(None).normalize())


def _ratios(splits: pd.Series) -> Any:
    return splits.where(splits > 0.0, 1.0).to_numpy()
