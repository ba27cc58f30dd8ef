"""What the parts of the trader exchange: orders, fills, bars, decisions, and the protocols of venues, feeds and agents.

Stamps are ends of bars in UTC as text, ``2026-01-02T15:30:00Z``; they sort as text. Times are seconds since 1970, UTC.
Shares are signed: negative sells, or is short. Money is in quote currency.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sentio_kedro.trader.orders import CorporateAction, Fill, Holdings, Lattice, Order, Outcome, VenueOrder

if TYPE_CHECKING:
    import pandas as pd


class Broker(Protocol):
    """A venue. Requests that change something never raise; questions raise ``UnreadableError``.

    Attributes:
        name: ``simulated``, ``alpaca``, ``ccxt-binance``...
        crosses_zero: Whether one order may turn a long position short; otherwise it goes in two legs.
        simulated: Whether the execution step fills orders at the next bar; fills then come with the decision.
    """

    name: str
    crosses_zero: bool
    simulated: bool

    async def account_id(self) -> str:
        """Return the account's id."""
        ...

    async def now(self) -> float:
        """Return the venue's clock."""
        ...

    async def lattices(self, symbols: Sequence[str]) -> dict[str, Lattice]:
        """Return what it takes of each symbol."""
        ...

    async def window(self, order: Order) -> tuple[float, float] | None:
        """Return from when until when an order may be sent; null is now, until the trader's own deadline."""
        ...

    async def submit(self, order: Order) -> Outcome:
        """Send an order once: one POST, no retry, 5 s at most."""
        ...

    async def find(self, order: Order) -> VenueOrder | None:
        """Look an order up by its client id, open or not; None only if the venue says that there is none."""
        ...

    async def cancel(self, order: Order) -> Outcome:
        """Ask for a cancellation; what came of it is what ``find`` says."""
        ...

    async def cancel_all(self) -> None:
        """Cancel all open orders of the account; raises ``UnreadableError`` if that was not answered definitely."""
        ...

    async def open_orders(self) -> list[VenueOrder]:
        """Return all open orders of the account, also those of others."""
        ...

    async def fills(self, since: float) -> list[Fill]:
        """Return all executions of the account from ``since`` on, in order of time."""
        ...

    async def holdings(self) -> Holdings:
        """Return cash and positions."""
        ...

    async def actions(self, since: float) -> list[CorporateAction]:
        """Return cash flows and splits of the account from ``since`` on."""
        ...

    async def arm(self, seconds: float) -> bool:
        """Let the venue cancel all orders unless armed again within ``seconds``; False where it cannot."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@dataclass(frozen=True)
class RawBar:
    """A complete bar of one symbol as a feed delivers it.

    Attributes:
        stamp: End of the bar.
        symbol: Its symbol.
        values: ``open``, ``high``, ``low``, ``close``, ``volume``, and other columns that agents read.
        source: Feed, such as ``alpaca-iex``.
        arrived: When it came, seconds since 1970.
    """

    stamp: str
    symbol: str
    values: Mapping[str, float]
    source: str
    arrived: float


@dataclass(frozen=True)
class BarRow:
    """All bars of one stamp, as decided on.

    Attributes:
        stamp: End of the bars.
        bars: Values by symbol; a symbol that is missing is halted here.
        source: Feed.
        arrived: When the last of them came, seconds since 1970.
        closing: Whether the agents close all positions at this bar's close: end of a replay, or a person's wish.
    """

    stamp: str
    bars: Mapping[str, Mapping[str, float]]
    source: str
    arrived: float
    closing: bool = False


class Feed(Protocol):
    """Complete bars of the traded symbols.

    Attributes:
        source: Name that agents are compared with, such as ``alpaca-iex``.
    """

    source: str

    async def history(self, bars: int) -> pd.DataFrame:
        """Return the newest complete bars, at least so many stamps, as a long frame like the catalog's ``bars``."""
        ...

    def rows(self, after: str) -> AsyncIterator[BarRow]:
        """Yield rows later than a stamp, each stamp once, in order; after a gap the feed fills in what it missed."""
        ...

    def notes(self) -> list[Note]:
        """Return what else happened since the last call: late and revised bars, gaps, reconnects."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@dataclass(frozen=True)
class Note:
    """Something that happened to a feed.

    Attributes:
        kind: ``revised_bar``, ``late_bar``, ``duplicate_bar``, ``gap`` or ``reconnected``.
        key: Makes it a fact of its own among its kind.
        body: Details as plain data.
    """

    kind: str
    key: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Simulated:
    """How the newest bar is executed in simulation: by the backtest's step.

    Attributes:
        sent: Ids of the orders of the bar before that were accepted; what was not sent is not traded.
    """

    sent: frozenset[str]


@dataclass(frozen=True)
class Settled:
    """What a real account had done by the close of the newest bar.

    Attributes:
        shares: Position by symbol.
        cash: Cash.
        traded: Signed shares and average price by symbol since the bar before.
    """

    shares: Mapping[str, float]
    cash: float
    traded: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Charge:
    """Cash that moved without a trade, in simulation: ``dividend``, ``borrow``, ``funding``, ``financing`` or ``ruin``.

    ``ruin`` is what a broker bears of the loss of an account that is worth nothing.


    Attributes:
        kind: Which.
        symbol: Of which asset; empty for the account.
        cash: Signed.
    """

    kind: str
    symbol: str
    cash: float


@dataclass(frozen=True)
class Decision:
    """What agents decided at a bar's close, and how it came about.

    Attributes:
        bar: Stamp.
        orders: Signed shares to send by symbol; symbols without an order are left out.
        targets: Position by symbol once they are filled, fraction of equity.
        actions: Index of the chosen level by symbol, -1 if the agents abstain.
        legal: Legal levels by symbol.
        closes: Latest close by symbol.
        equity: At this close.
        shares: Position by symbol at this close.
        cash: At this close.
        account: The whole account state, as plain data that restores it to the last bit.
        fills: Simulated fills since the bar before; ``order`` is the id they belong to, or empty for exits of stops.
        charges: Simulated cash since then.
        splits: New shares per old by symbol, where not 1, since then.
        model: Facts about the decision worth keeping: regime probabilities, tail risk.
    """

    bar: str
    orders: Mapping[str, float]
    targets: Mapping[str, float]
    actions: Mapping[str, int]
    legal: Mapping[str, Sequence[bool]]
    closes: Mapping[str, float]
    equity: float
    shares: Mapping[str, float]
    cash: float
    account: Mapping[str, Any]
    fills: Sequence[Fill] = ()
    charges: Sequence[Charge] = ()
    splits: Mapping[str, float] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)


class Decider(Protocol):
    """Agents that follow bars and decide for one account.

    Attributes:
        symbols: What they trade.
        required_bars: Stamps of history that they need.
        source: Feed that they were trained on; empty if unknown.
        model: Name and version, for the journal.
    """

    symbols: tuple[str, ...]
    source: str
    model: str

    @property
    def required_bars(self) -> int:
        """Stamps of history that they need."""
        ...

    def start(self, history: pd.DataFrame, account: Mapping[str, Any] | None, sent: frozenset[str]) -> Decision:
        """Take a history and decide at its newest bar.

        Args:
            history: Long frame whose newest stamp is that of the account.
            account: Account state of an earlier decision at that stamp; null opens one.
            sent: Ids of that decision's orders that were accepted, which a simulation fills at the next bar.
        """
        ...

    def advance(self, row: BarRow, execution: Simulated | Settled) -> Decision:
        """Execute what was decided before, then decide at the close of the next bar."""
        ...
