"""Bars of US stocks from Alpaca: asked for by REST at each bar's end, and of minutes also by the stream.

REST answers come from the vendor that downloads training bars, so that live bars carry the same stamps, prices as
traded, dividends and splits; longer bars are the vendor's own and not put together from minutes. The stream is only
faster: when a minute's bars are late, REST is asked, and a stream that had no bars where REST has some is mute and
connected anew. Minutes without a trade have no bar.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from pydantic import SecretStr

from sentio_kedro.config.live.trader import FeedParameters
from sentio_kedro.trader.brokers.alpaca_answers import NEW_YORK
from sentio_kedro.trader.brokers.alpaca_markets import KEYS, require_keys
from sentio_kedro.trader.clock import Clock, seconds_of, stamp_of
from sentio_kedro.trader.contract import BarRow, Note, RawBar
from sentio_kedro.trader.feeds.assembly import Assembled, Assembler, in_sessions
from sentio_kedro.trader.orders import UnreadableError
from sentio_kedro.vendors.alpaca_markets import AlpacaMarkets
from sentio_kedro.vendors.contract import COLUMNS, PRICES, VendorError
from sentio_kedro.vendors.contract import Clock as VendorClock
from sentio_kedro.vendors.transport import Transport

_VALUES = COLUMNS[2:]
_DAY, _SESSION = 86_400.0, 23_400.0  # seconds
_SETTLED = 2.0  # seconds after a bar's end at which REST has it
_AGAIN = 2.0  # seconds between questions while bars are missing
_LATER = 15.0  # the same when their grace is over, and longer the longer that is
_CLOSED = 15 * _DAY  # longer than any exchange closes
_AHEAD = 60.0  # seconds by which the vendor's clock may be ahead of ours
_PER_MINUTE = 60_000  # questions are few; those of a back-fill need not wait for each other


class AlpacaFeed:
    """Bars of a US exchange's sessions; bars before and after them are passed over.

    Attributes:
        source: The name under which downloads of the same bars are stored, ``alpaca-iex-30m``.
    """

    def __init__(
        self,
        feed: FeedParameters,
        symbols: Sequence[str],
        interval: str,
        credentials: Mapping[str, SecretStr],
        clock: Clock,
        calendar: str = "XNYS",
        timeout_seconds: float = 5.0,
    ) -> None:
        """Prepare connections; nothing is sent yet.

        Args:
            feed: Stream, address, grace and largest gap.
            symbols: The agents' symbols.
            interval: Length of a bar, such as ``30m``.
            credentials: ``api_key`` and ``secret_key``.
            clock: The trader's clock.
            calendar: Sessions, a name of the package exchange_calendars.
            timeout_seconds: Time for one request.

        Raises:
            ValueError: If a key is missing.
        """
        require_keys(credentials)
        self._symbols, self._feed, self._clock = tuple(symbols), feed, clock
        self._transport = Transport(
            f"alpaca.{feed.stream}",
            _PER_MINUTE,
            tuple(credentials[key].get_secret_value() for key in KEYS),
            VendorClock(clock.now),
            tries=1,
            timeout=timeout_seconds,
        )
        self._vendor = AlpacaMarkets(
            interval,
            feed.stream,
            {key: credentials[key].get_secret_value() for key in KEYS},
            self._transport,
            feed.url,
        )
        self.source, self._length = self._vendor.source, self._vendor.length.total_seconds()
        self._expected = in_sessions(self._length, calendar)
        self._arrived: asyncio.Queue[RawBar | str] = asyncio.Queue()
        self._minutes = _Minutes(feed, symbols, credentials, self._deliver) if interval == "1m" else None
        self._begun: dict[str, str] = {}  # stamp of a symbol's first bar of the newest day that REST has
        self._streamed = ""  # newest stamp of the stream
        self._notes: list[Note] = []
        self._lost: tuple[str, str] | None = None  # since when questions fail, and why

    async def history(self, bars: int) -> pd.DataFrame:
        """Return the newest complete bars.

        Args:
            bars: Stamps wanted; there are fewer if the symbols have not traded as long.

        Returns:
            A long frame with ``timestamp`` (end, UTC), ``symbol``, prices as traded, volume, dividend and split.

        Raises:
            UnreadableError: If the vendor does not answer.
        """
        sessions = bars if self._length >= _DAY else ceil(bars * self._length / _SESSION)
        frame, now = pd.DataFrame(columns=COLUMNS), self._clock.now()
        for times in (1, 2, 4):
            begin = now - (times * sessions * 1.5 + 5) * _DAY
            try:
                frame = await asyncio.to_thread(self._fetch, begin, now)
            except VendorError as error:
                raise UnreadableError(str(error)) from None
            if frame["timestamp"].nunique() >= bars:
                break
        return frame

    async def rows(self, after: str) -> AsyncIterator[BarRow]:
        """Yield rows later than a stamp, each once, in order; lost questions are asked again."""
        rows = Assembler(
            self._symbols,
            self.source,
            self._expected,
            after,
            grace_seconds=self._feed.grace_seconds,
            max_gap_bars=self._feed.max_gap_bars,
        )
        if self._minutes:
            self._minutes.start()
        due, bars = self._clock.now(), list[RawBar]()
        while True:
            if self._clock.now() >= due:
                bars += await self._poll(rows)
            took = self._take(rows, bars)
            self._notes += took.notes
            for row in took.rows:
                yield row
            due = self._next(rows)
            bars, early = await self._wait(due)
            due = self._clock.now() if early else due

    def notes(self) -> list[Note]:
        """Return late and revised bars, gaps and reconnects since the last call."""
        notes, self._notes = self._notes, []
        return notes

    async def close(self) -> None:
        """Close connections."""
        if self._minutes:
            await self._minutes.close()
        for client in (self._vendor._bars, self._vendor._actions):
            client._session.close()

    def _take(self, rows: Assembler, bars: Sequence[RawBar]) -> Assembled:
        """Give bars that have ended by the venue's clock, which may be ahead of ours."""
        latest = max((seconds_of(bar.stamp) for bar in bars), default=0.0)
        return rows.take([bar for bar in bars if rows.expects(bar.stamp)], max(self._clock.now(), latest))

    async def _wait(self, due: float) -> tuple[list[RawBar], bool]:
        """Wait for bars of the stream, until ``due`` at the latest.

        Returns:
            The bars, and whether REST is to be asked now, since the stream was interrupted.
        """
        if self._minutes is None:
            await self._clock.wait_until(due)
            return [], False
        waits = {asyncio.ensure_future(self._arrived.get()), asyncio.ensure_future(self._clock.wait_until(due))}
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        arrived = [found for found in (wait.result() for wait in done) if found is not None]
        while not self._arrived.empty():
            arrived.append(self._arrived.get_nowait())
        reasons = [found for found in arrived if isinstance(found, str)]
        for reason in reasons:
            now = stamp_of(self._clock.now())
            self._notes.append(Note("reconnected", f"{now}|{reason}", {"until": now, "reason": reason}))
        return [found for found in arrived if isinstance(found, RawBar)], bool(reasons)

    def _deliver(self, what: Mapping[str, Any] | str) -> None:
        """Take a bar of the stream, or the reason of a new connection, which is empty for the first.

        Dividends and splits come with a symbol's first bar of a day, and by REST alone.
        """
        if isinstance(what, str):
            self._streamed = max(self._streamed, stamp_of(self._clock.now()))  # of what was before it knows nothing
            if what:
                self._arrived.put_nowait(what)
            return
        stamp, symbol = stamp_of(what["t"].to_unix() + self._length), what["S"]
        self._streamed = max(self._streamed, stamp)
        if self._follows(symbol, stamp):
            values = {name: float(what[name[0]]) for name in (*PRICES, "volume")} | {"dividend": 0.0, "split": 1.0}
            self._arrived.put_nowait(RawBar(stamp, symbol, values, self.source, self._clock.now()))

    async def _poll(self, rows: Assembler) -> list[RawBar]:
        """Return the bars since the newest row and of today, which shows revisions; none if the question failed."""
        now = self._clock.now()
        midnight = datetime.fromtimestamp(now, NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
        overlap = 3 * _DAY if self._length >= _DAY else 0.0
        begin = min(seconds_of(rows.newest), midnight.timestamp()) - overlap
        try:
            frame = await asyncio.to_thread(self._fetch, begin, now)
        except VendorError as error:
            self._lost = self._lost or (stamp_of(now), str(error))
            return []
        if self._lost:
            since, reason = self._lost
            self._notes.append(Note("reconnected", since, {"since": since, "until": stamp_of(now), "reason": reason}))
            self._lost = None
        arrived, bars = self._clock.now(), []
        for end, symbol, *values in frame.itertuples(index=False):
            stamp = stamp_of(end.timestamp())
            bars.append(RawBar(stamp, symbol, dict(zip(_VALUES, values, strict=True)), self.source, arrived))
        self._look_for_silence(rows, bars)
        for bar in bars:
            if _day(self._begun.get(bar.symbol, "")) < _day(bar.stamp):
                self._begun[bar.symbol] = bar.stamp
        return bars

    def _look_for_silence(self, rows: Assembler, bars: Sequence[RawBar]) -> None:
        """Connect the stream anew if it should have had bars that REST has."""
        known, late = max(rows.newest, self._streamed), stamp_of(self._clock.now() - self._check())
        if self._minutes and any(known < bar.stamp <= late and self._follows(bar.symbol, bar.stamp) for bar in bars):
            self._minutes.renew()

    def _follows(self, symbol: str, stamp: str) -> bool:
        """Return whether REST had an earlier bar of the same day, so that this one has no dividend and no split."""
        first = self._begun.get(symbol, "")
        return first < stamp and _day(first) == _day(stamp)

    def _fetch(self, begin: float, end: float) -> pd.DataFrame:
        """Return the complete bars of sessions; in a thread.

        Raises:
            VendorError: If the vendor does not deliver.
        """
        last = end + _AHEAD  # what has ended by then the vendor's own clock says
        first, until = (pd.Timestamp(at, unit="s", tz="UTC") for at in (begin, last))
        pages = [
            page
            for at in range(0, len(self._symbols), self._vendor.batch)
            for page in self._vendor.fetch(self._symbols[at : at + self._vendor.batch], first, until)
        ]
        frame = pd.concat(pages) if pages else pd.DataFrame(columns=COLUMNS)
        stamps = list(self._expected(stamp_of(begin), stamp_of(last)))
        return inside(frame, pd.DatetimeIndex(stamps, tz="UTC").as_unit("ns"))

    def _check(self) -> float:
        """Return the seconds after a bar's end at which REST is asked."""
        half = self._feed.grace_seconds / 2
        now = stamp_of(self._clock.now() + self._length)
        streamed = self._minutes and all(self._follows(symbol, now) for symbol in self._symbols)
        return half if streamed else min(_SETTLED, half)

    def _next(self, rows: Assembler) -> float:
        """Return when to ask REST."""
        now = self._clock.now()
        open_ = self._expected(rows.newest, stamp_of(int(now)))
        if open_:
            end = seconds_of(open_[-1])
            first, grace = end + self._check(), end + self._feed.grace_seconds
            if now < first:
                return first
            if now < grace:
                return min(now + _AGAIN, grace)
            later = now + max(_LATER, now - grace)
        else:
            later = now + _CLOSED
        coming = self._expected(stamp_of(int(now)), stamp_of(now + _CLOSED))
        return min(later, seconds_of(coming[0]) + self._check()) if coming else later


class _Minutes:
    """The stream of minutes by the library, which connects again by itself and fills in nothing."""

    def __init__(
        self,
        feed: FeedParameters,
        symbols: Sequence[str],
        credentials: Mapping[str, SecretStr],
        deliver: Callable[[Mapping[str, Any] | str], None],
    ) -> None:
        from alpaca.data.enums import DataFeed  # noqa: PLC0415 - of the extra `alpaca`
        from alpaca.data.live import StockDataStream  # noqa: PLC0415

        self._deliver, self._reason = deliver, ""
        self._task: asyncio.Task[None] | None = None
        quiet = logging.getLogger(f"{__name__}.socket")
        quiet.setLevel(logging.INFO)  # frames are logged below it, and one of them holds the keys
        url = f"{feed.url.rstrip('/').replace('http', 'ws', 1)}/v2/{feed.stream}" if feed.url else None
        library: Any = StockDataStream
        self._stream = library(
            **{key: credentials[key].get_secret_value() for key in KEYS},
            raw_data=True,
            feed=DataFeed(feed.stream),
            websocket_params={"ping_interval": 10, "ping_timeout": 180, "close_timeout": 1, "logger": quiet},
            url_override=url,
        )
        self._stream.subscribe_bars(self._take, *symbols)
        self._stream.subscribe_updated_bars(self._take, *symbols)
        self._connect, self._stream._start_ws = self._stream._start_ws, self._connected

    def start(self) -> None:
        """Begin to listen, once."""
        if self._task is None:
            self._task = asyncio.create_task(self._stream._run_forever())

    def renew(self) -> None:
        """Close a connection that is mute; the library opens another."""
        if self._reason != "mute":
            self._reason = "mute"
            if self._stream._ws is not None:
                self._stream._ws.fail_connection()

    async def close(self) -> None:
        """Listen no more."""
        if self._task:
            await self._stream.stop_ws()
            await self._stream.close()
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _take(self, bar: Mapping[str, Any]) -> None:
        self._deliver(bar)

    async def _connected(self) -> None:
        await self._connect()
        self._deliver(self._reason)
        self._reason = "closed"


def inside(bars: pd.DataFrame, stamps: pd.DatetimeIndex) -> pd.DataFrame:
    """Return the bars with some stamps; dividends and splits of others move to the symbol's next one.

    Args:
        bars: Columns ``COLUMNS``.
        stamps: Stamps to keep.
    """
    bars = bars.sort_values(["symbol", "timestamp"], ignore_index=True)
    kept = bars["timestamp"].isin(stamps).to_numpy()
    dividend, split = (bars[name].to_numpy(np.float64, copy=True) for name in ("dividend", "split"))
    rows, symbols = np.flatnonzero(kept), bars["symbol"].to_numpy()
    for row in np.flatnonzero(~kept & ((dividend != 0.0) | (split != 1.0)))[::-1]:
        place = np.searchsorted(rows, row)
        if place < len(rows) and symbols[rows[place]] == symbols[row]:
            to = rows[place]
            dividend[to] += dividend[row] / split[to]
            split[to] *= split[row]
    bars = bars.assign(dividend=dividend, split=split)[kept]
    return bars.sort_values(["timestamp", "symbol"], ignore_index=True)


def _day(stamp: str) -> str:
    """Return the date in New York of a bar's end; empty without one."""
    return f"{datetime.fromisoformat(stamp).astimezone(NEW_YORK):%Y-%m-%d}" if stamp else ""
