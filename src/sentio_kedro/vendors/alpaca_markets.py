"""US stocks of Alpaca by the package alpaca-py: raw bars, and corporate actions as events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sentio_kedro.vendors.contract import INTERVALS, VendorError
from sentio_kedro.vendors.pages import date_ends, inside, page
from sentio_kedro.vendors.transport import Transport

ZONE = "America/New_York"
FEEDS = ("iex", "sip", "boats", "otc")
_NAMES = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
_PAGE = pd.Timedelta(days=366)


class AlpacaMarkets:
    """Raw bars of a feed of Alpaca; ``iex`` trades a fraction of the volume that ``sip``, the consolidated tape, has.

    The client asks again by itself on 429 and 504; the transport answers before it could.
    """

    batch = 100
    always_open = False
    rewrites = False

    def __init__(
        self, interval: str, feed: str, keys: Mapping[str, str], transport: Transport, url: str | None = None
    ) -> None:
        """Take the length of a bar, the feed, ``api_key`` and ``secret_key``, and another address, if any."""
        from alpaca.data.enums import Adjustment, DataFeed  # noqa: PLC0415 - of the extra `data`
        from alpaca.data.historical import StockHistoricalDataClient  # noqa: PLC0415
        from alpaca.data.historical.corporate_actions import CorporateActionsClient  # noqa: PLC0415
        from alpaca.data.requests import CorporateActionsRequest, StockBarsRequest  # noqa: PLC0415
        from alpaca.data.timeframe import TimeFrame, TimeFrameUnit  # noqa: PLC0415

        self.source, self.length = f"alpaca-{feed}-{interval}", INTERVALS[interval]
        self._transport = transport
        unit = {"m": TimeFrameUnit.Minute, "h": TimeFrameUnit.Hour, "d": TimeFrameUnit.Day}[interval[-1]]
        self._options = {
            "timeframe": TimeFrame(int(interval[:-1]), unit),
            "adjustment": Adjustment.RAW,
            "feed": DataFeed(feed),
        }
        self._bars_request, self._actions_request = StockBarsRequest, CorporateActionsRequest
        where: dict[str, Any] = {**keys, "url_override": url.rstrip("/") if url else None, "raw_data": True}
        self._bars: Any = StockHistoricalDataClient(**where)
        self._actions: Any = CorporateActionsClient(**where)
        for client in (self._bars, self._actions):
            transport.attach(client._session, keys=("bars", "corporate_actions"))

    def fetch(self, symbols: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> Iterator[pd.DataFrame]:
        """Yield pages of a year as the contract says."""
        events = self._events(symbols, start, end)
        while start < end:
            stop = min(start + _PAGE, end)
            # a day's bar is stamped at New York's midnight, some hours after that of UTC
            asked = {"start": start.to_pydatetime(), "end": stop.to_pydatetime()}
            answer = self._bars.get_stock_bars(
                self._bars_request(symbol_or_symbols=list(symbols), **asked, **self._options)
            )
            now = pd.Timestamp(self._transport.now(), unit="s", tz="UTC")
            for symbol, rows in answer.items():
                if symbol in symbols and rows:
                    yield self._page(symbol, rows, events.get(symbol), start, min(stop, now))
            start = stop

    def _page(
        self,
        symbol: str,
        rows: list[dict[str, Any]],
        events: pd.DataFrame | None,
        start: pd.Timestamp,
        end: pd.Timestamp,
    ) -> pd.DataFrame:
        frame = pd.DataFrame(rows).rename(columns=_NAMES)
        begins = pd.DatetimeIndex(pd.to_datetime(frame["t"], utc=True))
        days = self.length == INTERVALS["1d"]
        ends = date_ends(begins.tz_convert(ZONE)) if days else begins + self.length
        if events is not None:
            events = events[(events["end"] > start) & (events["end"] <= end)]
        return inside(page(symbol, ends, frame, events), start, end, self.length)

    def _events(self, symbols: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> dict[str, pd.DataFrame]:
        """Return dividends and splits by symbol, with the end of the first bar that may hold each."""
        span = {"start": start.date(), "end": end.date()}
        answer = self._actions.get_corporate_actions(self._actions_request(symbols=list(symbols), **span))
        rows: dict[str, list[tuple[pd.Timestamp, float, float]]] = {}
        for kind, actions in answer.items():
            for action in actions:
                paid, ratio = _effect(kind, action)
                if paid or ratio != 1.0:
                    rows.setdefault(action["symbol"], []).append((self._first_end(action["ex_date"]), paid, ratio))
        names = ["end", "dividend", "split"]
        return {symbol: pd.DataFrame(sorted(found), columns=names) for symbol, found in rows.items()}

    def _first_end(self, date: str) -> pd.Timestamp:
        if self.length == INTERVALS["1d"]:
            return date_ends(pd.DatetimeIndex([date]))[0]
        return pd.Timestamp(date, tz=ZONE).tz_convert("UTC") + self.length


def _effect(kind: str, action: Mapping[str, Any]) -> tuple[float, float]:
    """Return cash per share and new shares per old of a corporate action."""
    try:
        if kind == "cash_dividends":
            return float(action["rate"]), 1.0
        if kind in ("forward_splits", "reverse_splits"):
            return 0.0, float(action["new_rate"]) / float(action["old_rate"])
        if kind == "stock_dividends":
            return 0.0, 1.0 + float(action["rate"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise VendorError(
            f"`alpaca` must give {kind} with a rate, gave one of {action.get('symbol')} without ({error}); try later."
        ) from None
    return 0.0, 1.0
