"""What the trader knows, what does not change, and what it may ask the runtime to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.orders import Lattice, Order

Mode = Literal["active", "reducing", "halted"]
Progress = Literal["intended", "queued", "sending", "unknown", "working", "cancelling"]
"""``intended``: may be sent; ``queued``: the runtime was told to; ``sending``: its POST began."""

LOOKS = 3  # look-ups that find nothing before an order counts as absent


@dataclass(frozen=True)
class Rules:
    """What does not change while a trader runs.

    Attributes:
        name: Name of the trader.
        symbols: What it trades.
        bar_seconds: Length of a bar.
        limits: Limits before an order is sent.
        orders: How orders are sent.
        lattices: What the venue takes of each symbol.
        crosses_zero: Whether one order may turn a position; otherwise it goes in two legs.
        simulated: Whether the execution step fills orders with the next decision.
    """

    name: str
    symbols: tuple[str, ...]
    bar_seconds: float
    limits: TraderLimits
    orders: SendingParameters
    lattices: Mapping[str, Lattice] = field(default_factory=dict)
    crosses_zero: bool = True
    simulated: bool = True


@dataclass(frozen=True)
class OpenOrder:
    """An order that is not terminal.

    Attributes:
        order: As decided.
        progress: How far it is; after a restart whatever was not ``working`` is ``unknown``.
        filled: Signed shares so far, by fills.
        posts: How often it was sent.
        accepted: Whether the venue has, or had, it.
        venue_id: The venue's id.
        looks: Look-ups since then that found nothing.
        since: When it was sent or became unknown, seconds since 1970.
        due: When to look again, seconds since 1970.
    """

    order: Order
    progress: Progress
    filled: float = 0.0
    posts: int = 0
    accepted: bool = False
    venue_id: str = ""
    looks: int = 0
    since: float = 0.0
    due: float = 0.0

    @property
    def unanswered(self) -> bool:
        """Whether it is not known yet whether the venue has it."""
        return self.progress not in ("working", "cancelling")


@dataclass(frozen=True)
class State:
    """All that the trader knows, a fold over the journal's facts.

    What signals change (``looks``, ``due``, ``progress`` and the last five attributes) is asked for again after a
    restart; the rest follows from facts alone.

    Attributes:
        mode: ``active``; ``reducing``: only what shrinks a position is sent; ``halted``: nothing is.
        reason: Why it is not active.
        contradiction: What cannot be, such as more filled than ordered; halts. Empty if nothing.
        started: How often the process started.
        bar: Stamp of the newest row; empty before the first.
        decided: Stamp of the newest decision.
        closed: Stamp of the newest bar whose orders are all answered, or that the agents refused.
        waiting: Stamp that is not decided yet; empty if none.
        cash: By fills and cash events.
        shares: Position by symbol, by fills and splits.
        as_of: Venue's time of the newest adoption; fills up to then are in it.
        unknown: Symbols without orders at the newest decision, since their position or orders are unknown.
        unsettled: Bars in a row with such symbols.
        closes: Latest close by symbol, of the feed.
        plan: Orders of the newest decision, signed shares by symbol; null is no number.
        priced: Closes that they were decided at.
        orders: Open orders by id.
        ended: Signed shares filled by id, of the newest decision's orders that ended or were denied.
        account: Account state of the newest decision.
        sent: Ids of the newest decision's orders that were accepted.
        fills_since: Venue's time of the newest fill known.
        denials: Denials by limits in a row.
        sent_at: Times of the orders of the last 60 seconds.
        turnover: ``(minute, notional)`` of the orders of the last 24 hours.
        equity: At the newest decision.
        peak_equity: Highest at any decision since the trader was made active.
        session_equity: At the last decision of the session (UTC day) before, or since the trader was made active.
        comparisons: How often venue and journal were compared; no part of what makes states equal.
        compared: When they were last found equal.
        checking: Whether nothing is sent before they are compared again.
        compare_due: When to compare, seconds since 1970.
        deciding: Stamp that the agents are deciding on.
        wait_until: Until when a decision waits for orders to end.
        recording: Facts that were asked for and have not come back yet; nothing else is begun before.
    """

    mode: Mode = "active"
    reason: str = ""
    contradiction: str = ""
    started: int = 0
    bar: str = ""
    decided: str = ""
    closed: str = ""
    waiting: str = ""
    cash: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    as_of: float = 0.0
    unknown: frozenset[str] = frozenset()
    unsettled: int = 0
    closes: Mapping[str, float] = field(default_factory=dict)
    plan: Mapping[str, float | None] = field(default_factory=dict)
    priced: Mapping[str, float] = field(default_factory=dict)
    orders: Mapping[str, OpenOrder] = field(default_factory=dict)
    ended: Mapping[str, float] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)
    sent: frozenset[str] = frozenset()
    fills_since: float = 0.0
    denials: int = 0
    sent_at: tuple[float, ...] = ()
    turnover: tuple[tuple[float, float], ...] = ()
    equity: float = 0.0
    peak_equity: float = 0.0
    session_equity: float = 0.0
    comparisons: int = field(default=0, compare=False)
    compared: float = 0.0
    checking: bool = False
    compare_due: float = 0.0
    deciding: str = ""
    wait_until: float = 0.0
    recording: frozenset[str] = frozenset()

    def but(self, **changes: Any) -> State:
        """Return a copy with other values: ``dataclasses.replace``, ten times as fast for so many attributes."""
        if not changes.keys() <= vars(self).keys():
            raise TypeError(f"The state has no {', '.join(sorted(changes.keys() - vars(self).keys()))}.")
        other = object.__new__(State)
        vars(other).update(vars(self), **changes)
        return other


@dataclass(frozen=True)
class Record:
    """Keep facts, in one transaction, then give each to ``step``; ``durable``: on disk before anything else is done.

    Records come before other actions, and are done before any other event is given to ``step``.

    Attributes:
        events: The facts.
        durable: Whether they must be on disk first.
    """

    events: tuple[Event, ...]
    durable: bool = False


@dataclass(frozen=True)
class Decide:
    """Let the agents decide at the row of ``bar``; gives ``filled``, ``cash``, ``split`` and ``decided``.

    Attributes:
        bar: Its stamp.
    """

    bar: str


@dataclass(frozen=True)
class Send:
    """Ask ``unsendable``; then record ``sent``, POST once; gives ``accepted``, ``refused`` or ``unknown``.

    Attributes:
        order: What to send.
    """

    order: Order


@dataclass(frozen=True)
class Find:
    """Look an order up; gives its new fills, and ``found``, ``absent`` or ``unreadable``.

    Attributes:
        order: What to look up.
    """

    order: Order


@dataclass(frozen=True)
class Cancel:
    """Ask the venue to cancel an order; ``Find`` follows as an action of its own, whatever the answer.

    Attributes:
        order: What to cancel.
    """

    order: Order


@dataclass(frozen=True)
class Compare:
    """Read orders, fills, cash and positions and compare them with the state; gives ``compared`` or ``unreadable``."""


Action = Record | Decide | Send | Find | Cancel | Compare


class Step(NamedTuple):
    """What an event makes of a state.

    Attributes:
        state: The next state.
        actions: What to do, in order.
    """

    state: State
    actions: tuple[Action, ...] = ()
