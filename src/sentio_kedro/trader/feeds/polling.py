"""Closed candles of a crypto exchange, asked for by ccxt at each bar's end and again until all symbols have come.

The exchange's clock says which candle is closed. Each question overlaps with what is known by a few bars, which shows
late and revised ones, and begins before whatever was missed, so that a gap is filled in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pandas as pd

from sentio_kedro.config.live.trader import FeedParameters
from sentio_kedro.trader.brokers.exchange_client import ExchangeClient
from sentio_kedro.trader.clock import Clock, seconds_of, stamp_of
from sentio_kedro.trader.contract import BarRow, Note, RawBar
from sentio_kedro.trader.feeds.assembly import Assembler, every
from sentio_kedro.trader.orders import UnreadableError
from sentio_kedro.vendors.contract import INTERVALS, PRICES

_VALUES = (*PRICES, "volume")
_OVERLAP = 3  # bars before the newest that are asked for again
_LIMIT = 1000  # candles of a page; exchanges that give fewer are asked more often
_AGAIN = 1.0  # seconds between questions while bars are missing
_AFTERWARDS = 15.0  # the same once their grace is over


class PollingFeed:
    """Bars of a market that never closes.

    Attributes:
        source: The name under which downloads of the same bars are stored, ``ccxt-binance-1h``.
    """

    def __init__(
        self,
        feed: FeedParameters,
        symbols: Sequence[str],
        interval: str,
        clock: Clock,
        quote: str = "USDT",
        timeout_seconds: float = 5.0,
    ) -> None:
        """Prepare a connection; nothing is sent yet.

        Args:
            feed: Exchange, address, grace and largest gap.
            symbols: The agents' symbols.
            interval: Length of a bar, such as ``1h``.
            clock: The trader's clock.
            quote: Currency of the cash, which symbols without a slash trade against.
            timeout_seconds: Time for one request.

        Raises:
            ValueError: If the exchange, a symbol or the interval cannot be used.
        """
        self._client = ExchangeClient(
            feed.exchange, symbols, quote, clock, timeout_seconds=timeout_seconds, url=feed.url
        )
        offered = [name for name in INTERVALS if name in (self._client.exchange.timeframes or {})]
        if interval not in offered:
            raise ValueError(
                f"`trader.feed.interval` must be one of {', '.join(offered)} at {feed.exchange}, was {interval!r}; "
                "agents that were trained on other bars cannot follow these."
            )
        self.source = f"ccxt-{feed.exchange}-{interval}"
        self._feed, self._interval, self._length = feed, interval, INTERVALS[interval].total_seconds()
        self._clock, self._ahead = clock, 0.0
        self._notes: list[Note] = []
        self._asked_about = ""
        self._lost: tuple[str, str] | None = None

    async def history(self, bars: int) -> pd.DataFrame:
        """Return the newest closed candles.

        Args:
            bars: Stamps wanted.

        Returns:
            A long frame with ``timestamp`` (end, UTC), ``symbol``, prices and volume; a symbol that the exchange began
            to trade later, or that did not trade, has fewer rows.

        Raises:
            UnreadableError: If the exchange does not answer.
            ValueError: If it does not trade a symbol.
        """
        await self._client.markets(self._client.symbols)
        now = await self._client.now()
        end = now // self._length * self._length
        asked = [self._bars(symbol, end - bars * self._length, now, now) for symbol in self._client.symbols]
        rows = [
            {"timestamp": bar.stamp, "symbol": bar.symbol, **bar.values}
            for page in await asyncio.gather(*asked)
            for bar in page
        ]
        frame = pd.DataFrame(rows, columns=["timestamp", "symbol", *_VALUES])
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True).dt.as_unit("ns")
        return frame.sort_values(["timestamp", "symbol"], ignore_index=True)

    async def rows(self, after: str) -> AsyncIterator[BarRow]:
        """Yield rows later than a stamp, each once, in order; lost questions are asked again.

        Raises:
            ValueError: If the exchange's candles do not end where those before ``after`` did.
        """
        rows = Assembler(
            tuple(self._client.symbols),
            self.source,
            every(self._length),
            after,
            grace_seconds=self._feed.grace_seconds,
            max_gap_bars=self._feed.max_gap_bars,
        )
        while not await self._set_clock():
            await self._clock.wait_until(self._clock.now() + _AGAIN)
        while True:
            now = self._clock.now() + self._ahead
            took = rows.take(await self._poll(rows, now), now)
            self._notes += took.notes
            for row in took.rows:
                yield row
            await self._clock.wait_until(self._next(rows) - self._ahead)

    def notes(self) -> list[Note]:
        """Return late and revised bars, gaps and outages since the last call."""
        notes, self._notes = self._notes, []
        return notes

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _poll(self, rows: Assembler, now: float) -> list[RawBar]:
        """Return what came, or nothing yet if a question failed that may be asked again within the grace."""
        end = now // self._length * self._length
        newest = stamp_of(end)
        again, self._asked_about = newest == self._asked_about, newest
        symbols = (rows.missing(newest) if again else []) or list(self._client.symbols)
        begin = seconds_of(rows.newest) - (1 + _OVERLAP) * self._length
        asked = (self._page_or_loss(symbol, begin, now) for symbol in symbols)
        *pages, _ = await asyncio.gather(*asked, self._set_clock(wanted=not again))
        lost = [page for page in pages if isinstance(page, UnreadableError)]
        self._note_outage(lost if len(lost) == len(pages) else [])
        if lost and now < end + self._feed.grace_seconds:
            return []
        return [bar for page in pages if isinstance(page, list) for bar in page]

    async def _page_or_loss(self, symbol: str, begin: float, now: float) -> list[RawBar] | UnreadableError:
        try:  # the newest candle alone is not worth a second page: it is asked for again after a second
            return await self._bars(symbol, begin, now, now - self._length)
        except UnreadableError as error:
            return error

    def _next(self, rows: Assembler) -> float:
        """Return when to ask again, by the exchange's clock."""
        now = self._clock.now() + self._ahead
        end = now // self._length * self._length
        if rows.newest >= stamp_of(end):
            return end + self._length
        grace_ends = end + self._feed.grace_seconds
        return min(now + _AGAIN, grace_ends) if now < grace_ends else min(now + _AFTERWARDS, end + self._length)

    def _note_outage(self, lost: Sequence[UnreadableError]) -> None:
        now = stamp_of(self._clock.now())
        if lost and self._lost is None:
            self._lost = (now, str(lost[0]))
        elif not lost and self._lost is not None:
            since, reason = self._lost
            self._notes.append(Note("reconnected", since, {"since": since, "until": now, "reason": reason}))
            self._lost = None

    async def _set_clock(self, *, wanted: bool = True) -> bool:
        """Learn how far the exchange's clock is ahead, rather too little: an open candle is the worse mistake."""
        try:
            if wanted:
                self._ahead = await self._client.now() - self._clock.now()
        except UnreadableError:
            return False
        return True

    async def _bars(self, symbol: str, begin: float, now: float, until: float) -> list[RawBar]:
        """Return the candles that begin at a time or later and are closed by ``now``.

        Pages are asked for until there is one that ends less than a bar before ``until``, or nothing new comes.

        Raises:
            UnreadableError: If the exchange does not answer.
        """
        name, found = self._client.symbols[symbol], dict[float, RawBar]()
        while begin <= until - self._length:
            limit = min(_LIMIT, int((now - begin) // self._length) + 1)
            page = await self._client.ask(
                self._client.exchange.fetch_ohlcv(name, self._interval, since=round(begin * 1000), limit=limit)
            )
            closed = self._closed(symbol, page, now)
            if not closed.keys() - found.keys():
                break
            found |= closed
            begin = max(closed)  # where the next candle begins, so that a page that is too short is made up for
        return [bar for _, bar in sorted(found.items())]

    def _closed(self, symbol: str, page: Sequence[Sequence[float]], now: float) -> dict[float, RawBar]:
        arrived, closed = self._clock.now(), dict[float, RawBar]()
        for opened, *values in page:
            end = opened / 1000 + self._length
            if end <= now and None not in values:
                prices = dict(zip(_VALUES, map(float, values), strict=True))
                closed[end] = RawBar(stamp_of(end), symbol, prices, self.source, arrived)
        return closed
