"""Fill a store from a vendor: what is new and what changed; killed at any point, the same command goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pandas as pd

from sentio_kedro.market.ingestion.problems import EXAMPLES, BarsError
from sentio_kedro.store import Appended, StoredBars
from sentio_kedro.vendors import journal
from sentio_kedro.vendors.contract import Clock, Vendor, VendorError
from sentio_kedro.vendors.overlap import ROUNDING, unannounced_splits
from sentio_kedro.vendors.pages import absent

LONG = pd.Timedelta(days=30)  # a span from which a symbol is fetched on its own
TOGETHER = 100  # symbols of short spans that are appended at once, so that a day makes few files
MANY = 200_000  # rows that are appended before more are fetched
OUTAGE = 3  # requests for symbols that fail one after the other

logger = logging.getLogger(__name__)


def download(
    vendor: Vendor,
    store: StoredBars,
    symbols: Sequence[str],
    start: pd.Timestamp,
    until: pd.Timestamp | None = None,
    clock: Clock | None = None,
) -> Appended:
    """Fetch what the store lacks, and what overlaps it; append bars that are new or differ.

    All bars become known when the download begins. That time and the plan are kept beside the store until all symbols
    are done: a killed download that is started again goes on with them, and ends with the same bytes. It then goes on
    to what has come since.

    Args:
        vendor: Where bars come from.
        store: Where they go.
        symbols: Symbols as the vendor writes them.
        start: Bars that begin at this time or later.
        until: Bars that end by this time; None is now.
        clock: Time; None is the system's.

    Returns:
        Numbers of new, revised and same bars of the download.

    Raises:
        VendorError: If symbols failed, after the others are done, or the vendor seems to be down.
        ValueError: If another process downloads from the vendor into the store.
    """
    with store.files.locked(f"download of {vendor.source}"):
        return _download(vendor, store, symbols, start, until, clock or Clock())


def _download(
    vendor: Vendor,
    store: StoredBars,
    symbols: Sequence[str],
    start: pd.Timestamp,
    until: pd.Timestamp | None,
    clock: Clock,
) -> Appended:
    now = pd.Timestamp(clock.now(), unit="s", tz="UTC").floor("us")
    plan = journal.new_plan(vendor, store, symbols, start, until, now)
    left = journal.unfinished_plan(vendor.source, store, plan)
    total = Appended(0, 0, 0)
    if left is not None:
        logger.info("A download of %s that began at %s goes on.", vendor.source, left.known_at)
        store.tidy(vendor.source)
        total = _followed(vendor, store, left, resumed=True)
        if pd.Timestamp(plan.end) - pd.Timestamp(left.end) < vendor.length:
            return total
        plan = journal.new_plan(vendor, store, symbols, start, until, now)
    journal.begin(vendor.source, store, plan)
    return _sum(total, _followed(vendor, store, plan, resumed=False))


def _followed(vendor: Vendor, store: StoredBars, plan: journal.Plan, *, resumed: bool) -> Appended:
    """Do what is not done of a plan, then forget it."""
    filling, total = _Filling(vendor, store, plan), Appended(0, 0, 0)
    for group in _groups(vendor, plan):
        counts = filling.group(group, resumed=resumed)
        total = _sum(total, counts)
        names = group[0] if len(group) == 1 else f"{len(group)} symbols from {group[0]} to {group[-1]}"
        logger.info("%s: %d new, %d revised, %d same.", names, *counts)
    journal.finish(vendor.source, store)
    logger.info("%s: %d new, %d revised and %d same bars.", vendor.source, *total)
    if filling.failed:
        raise VendorError("\n".join(filling.failed))
    return total


def _sum(one: Appended, other: Appended) -> Appended:
    return Appended(one.new + other.new, one.revised + other.revised, one.same + other.same)


def _groups(vendor: Vendor, plan: journal.Plan) -> list[list[str]]:
    """Return the symbols that are appended together; they follow from the plan alone, whatever is done of it."""
    end, daily = pd.Timestamp(plan.end), vendor.length >= pd.Timedelta(days=1)
    begins = {symbol: pd.Timestamp(plan.starts[symbol]) for symbol in plan.symbols}
    long = [symbol for symbol in plan.symbols if end - begins[symbol] >= LONG]
    short = [symbol for symbol in plan.symbols if begins[symbol] < end < begins[symbol] + LONG]
    size = TOGETHER if vendor.rewrites else vendor.batch if daily else 1
    return [*_chunks(long, size), *_chunks(short, TOGETHER)]


def _chunks(symbols: list[str], size: int) -> list[list[str]]:
    return [symbols[begin : begin + size] for begin in range(0, len(symbols), size)]


class _Filling:
    """Fetching and appending by a plan; what fails is kept and the rest goes on.

    Attributes:
        failed: What is wrong with the symbols that failed.
    """

    def __init__(self, vendor: Vendor, store: StoredBars, plan: journal.Plan) -> None:
        self.failed: list[str] = []
        self._vendor, self._store, self._plan = vendor, store, plan
        self._end = pd.Timestamp(plan.end)
        self._in_a_row = 0

    def group(self, symbols: list[str], *, resumed: bool) -> Appended:
        """Fetch and append symbols: at once, but for a long span of one symbol, which is appended by months.

        An append is whole or absent, so a group of which a symbol became known with a resumed plan is done.
        """
        marks = journal.marks(self._vendor.source, self._store)
        known, alone = pd.Timestamp(self._plan.known_at), len(symbols) == 1
        long = self._end - self._start(symbols) >= LONG
        done = resumed and any(symbol in marks and marks[symbol].known_at == known for symbol in symbols)
        if alone and long:
            return self._by_months(symbols[0], marks[symbols[0]].last if done else None)
        if done:
            return Appended(0, 0, 0)
        pages: list[pd.DataFrame] = []
        for chunk in _chunks(symbols, self._vendor.batch):
            try:
                pages += self._delivered(chunk, list(confirmed(self._vendor, chunk, self._start(chunk), self._end)))
            except VendorError as error:
                self._fail(str(error))
        return self._append(pages)

    def _by_months(self, symbol: str, after: pd.Timestamp | None) -> Appended:
        """Append a long span in parts; ``after`` is the newest bar of those that an earlier process has appended."""
        start = self._start([symbol])
        if after is not None:
            start = max(start, after - journal.overlap(self._vendor.length))
        total, pages, came = Appended(0, 0, 0), [], False
        try:
            for page in confirmed(self._vendor, [symbol], start, self._end):
                came = True
                pages.append(page if after is None else page[page["timestamp"] > after])
                if sum(map(len, pages)) >= MANY:
                    whole, rest = _whole_months(pd.concat(pages))
                    total, pages = _sum(total, self._append([whole])), [rest]
            self._delivered([symbol], pages if came else [])
        except VendorError as error:
            self._fail(str(error))
            return total
        return _sum(total, self._append(pages))

    def _start(self, symbols: list[str]) -> pd.Timestamp:
        return min(pd.Timestamp(self._plan.starts[symbol]) for symbol in symbols)

    def _delivered(self, symbols: list[str], pages: list[pd.DataFrame]) -> list[pd.DataFrame]:
        """Return the pages; of symbols without any bar it is told."""
        self._in_a_row = 0
        came = {symbol for page in pages for symbol in page["symbol"].unique()} if len(symbols) > 1 else set(symbols)
        lacking = [symbol for symbol in symbols if symbol not in came or not pages]
        if lacking:
            span = f"from {self._start(symbols):%Y-%m-%d} to {self._end:%Y-%m-%d}"
            self._fail(
                f"`{self._vendor.source}` must have bars of {', '.join(lacking)} {span}, has none; check the symbols "
                "as the vendor writes them, or drop them from `symbols`."
            )
        return pages

    def _fail(self, problem: str) -> None:
        """Keep a problem.

        Raises:
            VendorError: With all of them, if it is one of many in a row.
        """
        logger.warning("%s", problem)
        self.failed.append(problem)
        self._in_a_row += 1
        if self._in_a_row == OUTAGE:
            self.failed.append("The rest was not tried; the same command continues.")
            raise _OutageError("\n".join(self.failed))

    def _append(self, pages: list[pd.DataFrame]) -> Appended:
        bars = pd.concat(pages) if pages else pd.DataFrame()
        source = self._vendor.source
        held = sorted(set(bars["symbol"]) & set(journal.marks(source, self._store))) if len(bars) else []
        if held and not self._vendor.rewrites:
            first, last = bars["timestamp"].min(), bars["timestamp"].max()
            split = unannounced_splits(self._store.read(held, start=first, end=last, sources=[source]), bars)
            for problem in split.values():
                logger.warning("%s", problem)
            self.failed += split.values()
            bars = bars[~bars["symbol"].isin(list(split))]
        if bars.empty:
            return Appended(0, 0, 0)
        try:
            return self._store.append(bars, source, self._plan.known_at, rounding=ROUNDING)
        except BarsError as error:  # else these bars would stop every later download at the same place
            self._fail(f"{source}, {', '.join(bars['symbol'].unique()[:EXAMPLES])}: {error}")
            return Appended(0, 0, 0)


class _OutageError(VendorError):
    """The vendor seems to be down."""


def _whole_months(bars: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the bars of the months before the newest one, and its own."""
    month = bars["timestamp"].dt.year * 12 + bars["timestamp"].dt.month
    return bars[month < month.max()], bars[month == month.max()]


def confirmed(vendor: Vendor, symbols: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> Iterator[pd.DataFrame]:
    """Yield the pages of a vendor; bars that one would expect and that did not come are asked for once more.

    Args:
        vendor: Where bars come from.
        symbols: At most ``vendor.batch``.
        start: Bars that begin at this time or later.
        end: Bars that end by this time.
    """
    last: dict[str, pd.Timestamp] = {}
    for page in vendor.fetch(symbols, start, end):
        if page.empty:
            continue
        symbol, stamps = str(page["symbol"].iloc[0]), page["timestamp"]
        first = last[symbol] + vendor.length if symbol in last else stamps.iloc[0]
        holes = absent(stamps, first, stamps.iloc[-1], vendor.length, vendor.always_open)
        last[symbol] = stamps.iloc[-1]
        yield _completed(vendor, [symbol], page, holes)
    late = {
        symbol: absent([], at + vendor.length, end, vendor.length, vendor.always_open) for symbol, at in last.items()
    }
    late = {symbol: holes for symbol, holes in late.items() if len(holes)}
    if late:
        rest = _asked_again(vendor, list(late), min(holes[0] for holes in late.values()), end)
        if len(rest):
            yield rest[rest["timestamp"] > rest["symbol"].map(last)]


def _completed(vendor: Vendor, symbols: list[str], page: pd.DataFrame, holes: pd.DatetimeIndex) -> pd.DataFrame:
    if holes.empty:
        return page
    again = _asked_again(vendor, symbols, holes[0], page["timestamp"].iloc[-1])
    if again["timestamp"].isin(page["timestamp"]).all():
        return page
    # from the first hole on, events stand at other bars than on a page that lacks some
    both = pd.concat([again[again["timestamp"] >= holes[0]], page]).drop_duplicates("timestamp")
    return both.sort_values("timestamp", kind="stable").reset_index(drop=True)


def _asked_again(vendor: Vendor, symbols: list[str], first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """Return the bars that end from ``first`` to ``last``, in one frame."""
    margin = pd.Timedelta(0) if vendor.always_open else journal.OVERLAP_DAYS  # so that a week of holidays is no failure
    pages = list(vendor.fetch(symbols, first - vendor.length - margin, last))
    return pd.concat(pages) if pages else pd.DataFrame(columns=["timestamp", "symbol"])
