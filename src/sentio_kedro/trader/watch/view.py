"""What the watching process knows of a trader, in constant memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sentio_kedro.config.live.alarms import COLLAPSE_BARS, CONFIRMING, FILLS
from sentio_kedro.trader.state import Mode

EVENTS = 50  # newest ones on the page
POINTS = 500  # of the equity curve at most
DAY = 86_400.0

ACK_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
DECISION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0)


@dataclass(frozen=True)
class Histogram:
    """Durations in buckets.

    Attributes:
        bounds: Upper bounds, seconds.
        counts: Durations in each bucket; the last is beyond all bounds.
        total: Their sum, seconds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    def observed(self, seconds: float) -> Histogram:
        """Return it with one more duration; a negative one, of a clock that was set back, counts as 0."""
        seconds = max(0.0, seconds)
        number = sum(bound < seconds for bound in self.bounds)
        counts = (*self.counts[:number], self.counts[number] + 1, *self.counts[number + 1 :])
        return Histogram(self.bounds, counts, self.total + seconds)


def empty_histogram(bounds: tuple[float, ...]) -> Histogram:
    """Return a histogram without durations."""
    return Histogram(bounds, (0,) * (len(bounds) + 1))


@dataclass(frozen=True)
class Line:
    """An event on the page.

    Attributes:
        seq: Its place.
        at: When, seconds since 1970.
        kind: Its kind.
        text: What a person wants to know of it.
    """

    seq: int
    at: float
    kind: str
    text: str


@dataclass(frozen=True)
class Working:
    """An order that is not terminal.

    Attributes:
        id: Client order id.
        symbol: What is traded.
        shares: Signed.
        price: Close at its decision.
        progress: ``intended``, ``sent``, ``accepted`` or ``unknown``.
        since: When that was so first, seconds since 1970.
        filled: Signed shares so far.
    """

    id: str
    symbol: str
    shares: float
    price: float
    progress: str
    since: float
    filled: float = 0.0


@dataclass(frozen=True)
class FillCost:
    """What a fill cost against the close of its decision.

    Attributes:
        symbol: What was traded.
        shares: Signed.
        price: Paid or received.
        at: When, seconds since 1970.
        realised: Slippage, basis points; positive is worse than the close.
        model: Half spread and impact by the cost model, basis points; None if the fill does not say.
    """

    symbol: str
    shares: float
    price: float
    at: float
    realised: float
    model: float | None


@dataclass(frozen=True)
class View:
    """A fold over the journal's events, see ``fold``. Money is in quote currency, times are seconds since 1970.

    Attributes:
        seq: Place of the newest event.
        at: Its time.
        trading: ``replay``, ``paper``, ``venue_paper`` or ``live``; empty before the first start.
        broker: Name of the venue.
        account: Its id.
        model: Which agents decide.
        calendar: Of the sessions, if the start says so.
        starts: How often the process started.
        started: First start since a bar was closed; 0 if a bar was closed since.
        mode: See ``Mode``.
        reason: Why, in words.
        mode_since: Since when.
        bar: Stamp of the newest bar.
        bar_at: End of that bar.
        arrived: When it was recorded.
        bar_seconds: Length of a bar: as the start says, else the shortest distance of two bars; 0 if unknown.
        closed: Stamp of the newest bar whose orders are all answered.
        closed_at: End of that bar.
        decided: Stamp of the newest decision.
        decisions: How many there were.
        cash: By the newest decision, fills and cash events.
        shares: Position by symbol, those that are not 0.
        closes: Latest close by symbol.
        targets: Position by symbol that the newest decision asks for, fraction of equity.
        regimes: Probabilities at the newest decision.
        equity: At the newest decision.
        first_equity: At the first.
        first_decided: Its stamp.
        peak_equity: Highest at any.
        session_equity: At the last decision of the session (UTC day) before.
        curve: ``(number of the decision, stamp, equity)``, at most ``POINTS``.
        stride: Decisions from one point of the curve to the next.
        orders: Open orders by id.
        turnover: ``(time, notional)`` of orders of the last 24 hours, one for each bar.
        sent_at: Times of orders of the last 60 seconds.
        fills: The newest ``FILLS`` and those before that ``CONFIRMING`` looks need.
        lines: The newest ``EVENTS``.
        actions: Levels chosen at the newest ``COLLAPSE_BARS`` decisions; empty for one at which agents abstained.
        abstaining: Whether they did at the newest.
        outcomes: Orders by what became of them.
        denials: Orders denied, by limit.
        denials_in_a_row: Since the last order that was sent.
        revisions: Bars that came again with other values.
        late: Bars that came after their decision.
        missing: Stamps that the feed missed.
        fill_count: Executions.
        differences: Table of the newest comparison with the venue, empty once equal or adopted.
        compared: When they were compared; 0 is never.
        clock_offset: Venue's clock less ours, seconds; None while it is within its limit, which is not told.
        clock_bar: Last closed bar when it was told.
        decision_seconds: From bar to decision.
        ack_seconds: From order to answer.
        sending: When orders without an answer were sent, by id.
    """

    seq: int = 0
    at: float = 0.0
    trading: str = ""
    broker: str = ""
    account: str = ""
    model: str = ""
    calendar: str | None = None
    starts: int = 0
    started: float = 0.0
    mode: Mode = "active"
    reason: str = ""
    mode_since: float = 0.0
    bar: str = ""
    bar_at: float = 0.0
    arrived: float = 0.0
    bar_seconds: float = 0.0
    closed: str = ""
    closed_at: float = 0.0
    decided: str = ""
    decisions: int = 0
    cash: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    closes: Mapping[str, float] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    regimes: tuple[float, ...] = ()
    equity: float = 0.0
    first_equity: float = 0.0
    first_decided: str = ""
    peak_equity: float = 0.0
    session_equity: float = 0.0
    curve: tuple[tuple[int, str, float], ...] = ()
    stride: int = 1
    orders: Mapping[str, Working] = field(default_factory=dict)
    turnover: tuple[tuple[float, float], ...] = ()
    sent_at: tuple[float, ...] = ()
    fills: tuple[FillCost, ...] = ()
    lines: tuple[Line, ...] = ()
    actions: tuple[tuple[int, ...], ...] = ()
    abstaining: bool = False
    outcomes: Mapping[str, int] = field(default_factory=dict)
    denials: Mapping[str, int] = field(default_factory=dict)
    denials_in_a_row: int = 0
    revisions: int = 0
    late: int = 0
    missing: int = 0
    fill_count: int = 0
    differences: tuple[Mapping[str, Any], ...] = ()
    compared: float = 0.0
    clock_offset: float | None = None
    clock_bar: str = ""
    decision_seconds: Histogram = field(default_factory=lambda: empty_histogram(DECISION_BUCKETS))
    ack_seconds: Histogram = field(default_factory=lambda: empty_histogram(ACK_BUCKETS))
    sending: Mapping[str, float] = field(default_factory=dict)

    @property
    def drawdown(self) -> float:
        """Loss from the highest equity, fraction."""
        return 1.0 - self.equity / self.peak_equity if self.peak_equity > 0.0 else 0.0

    @property
    def session_loss(self) -> float:
        """Loss since the session before, fraction; 0 if it is a gain."""
        return max(0.0, 1.0 - self.equity / self.session_equity) if self.session_equity > 0.0 else 0.0

    @property
    def exposures(self) -> dict[str, float]:
        """Position by symbol, fraction of equity."""
        if self.equity <= 0.0:
            return {}
        return {symbol: shares * self.closes.get(symbol, 0.0) / self.equity for symbol, shares in self.shares.items()}

    @property
    def unknown(self) -> list[Working]:
        """Orders without a definite answer."""
        return [order for order in self.orders.values() if order.progress == "unknown"]

    @property
    def collapsible(self) -> bool:
        """Whether there are enough decisions to say that actions have collapsed."""
        return len(self.actions) == COLLAPSE_BARS

    @property
    def judged_fills(self) -> tuple[FillCost, ...]:
        """The fills that are compared with the cost model; none before there are enough."""
        return self.fills if len(self.fills) == FILLS + CONFIRMING else ()
