"""Orders, fills and accounts as a venue has them. Shares are signed: negative sells, or is short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OrderStatus = Literal["working", "filled", "cancelled", "expired", "refused"]
"""``expired`` is a rest that lapsed (IOC, end of the day); all but ``working`` are terminal."""


@dataclass(frozen=True)
class Order:
    """An order as decided, before and after it is sent.

    Attributes:
        id: Client order id, see ``identity``; the same after any restart.
        bar: Stamp of the bar at whose close it was decided.
        symbol: What to trade.
        shares: Signed.
        price: Close of the decision bar.
        leg: 1 for the part beyond zero of an order that the venue takes in two.
        closing: Whether it ends at a position of zero, whatever the lot.
    """

    id: str
    bar: str
    symbol: str
    shares: float
    price: float
    leg: int = 0
    closing: bool = False


@dataclass(frozen=True)
class Fill:
    """An execution.

    Attributes:
        id: The venue's id of the execution, unique for ever.
        order: Client order id; empty if none of ours.
        symbol: What was traded.
        shares: Signed.
        price: Per share.
        fee: Paid in quote currency; negative is a rebate.
        at: When, seconds since 1970.
        costs: Of a simulated fill: ``commission``, ``spread`` and ``impact``, quote currency, which ``fee`` leaves out.
    """

    id: str
    order: str
    symbol: str
    shares: float
    price: float
    fee: float
    at: float
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class VenueOrder:
    """An order as the venue tells it.

    Attributes:
        id: Client order id; empty if it has none.
        venue_id: The venue's id.
        symbol: What is traded.
        shares: Signed, as asked for.
        filled: Signed, so far.
        status: See ``OrderStatus``.
        reason: Why it was refused, in the venue's words.
    """

    id: str
    venue_id: str
    symbol: str
    shares: float
    filled: float
    status: OrderStatus
    reason: str = ""


@dataclass(frozen=True)
class Holdings:
    """What the venue says that the account has.

    Attributes:
        cash: Quote currency, negative if borrowed.
        shares: By symbol, all that are not 0, also of symbols that the agents do not trade.
    """

    cash: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """Answer to a request that changes something.

    Attributes:
        kind: ``accepted`` and ``refused`` by a definite answer alone; everything else is ``unknown``.
        venue_id: The venue's id of an accepted order.
        reason: Why not.
    """

    kind: Literal["accepted", "refused", "unknown"]
    venue_id: str = ""
    reason: str = ""


class UnreadableError(RuntimeError):
    """The venue did not answer a question definitely; what it was asked for is unknown, neither zero nor empty."""


@dataclass(frozen=True)
class Lattice:
    """What a venue takes of a symbol.

    Attributes:
        step: Shares of the smallest difference; 0 is any number.
        least: Least shares of an order.
        least_notional: Least price times shares of an order.
        tick: Price step of limit orders; 0 is any.
        shortable: Whether it may be held short.
        tradable: Whether it is traded now at all.
        short_step: ``step`` of a position below zero, and of orders that open or enlarge one; 0 is ``step``.
    """

    step: float = 0.0
    least: float = 0.0
    least_notional: float = 0.0
    tick: float = 0.0
    shortable: bool = True
    tradable: bool = True
    short_step: float = 0.0


@dataclass(frozen=True)
class CorporateAction:
    """A cash flow or a split that the venue booked.

    Attributes:
        id: The venue's id, unique for ever.
        kind: ``dividend``, ``fee``, ``interest``, ``transfer`` or ``split``.
        symbol: Of which; empty for the account.
        cash: Quote currency, signed.
        ratio: New shares per old.
        at: When, seconds since 1970.
    """

    id: str
    kind: Literal["dividend", "fee", "interest", "transfer", "split"]
    symbol: str
    cash: float
    ratio: float
    at: float
