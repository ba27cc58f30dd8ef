"""Comparison of what the journal and the venue say.

What the agents do not trade does not halt them: a person may hold or order other symbols in the same account. It is
told, and the cash that it moves is compared. An order or fill of a traded symbol that the journal does not know halts,
whoever made it: positions would move under the agents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.orders import Holdings, VenueOrder
from sentio_kedro.trader.state import Rules, State

CASH = 1e-6  # of equity
EXACT = 1e-9  # of rounding


@dataclass(frozen=True)
class Difference:
    """One line of the table.

    Attributes:
        what: ``cash``, ``position``, ``order`` or ``clock``.
        subject: Symbol or id.
        journal: What the journal says.
        venue: What the venue says.
        halts: Whether it stops the trader; otherwise it is only told.
    """

    what: str
    subject: str
    journal: float | str
    venue: float | str
    halts: bool = True


def differences(
    state: State,
    holdings: Holdings,
    open_orders: Sequence[VenueOrder],
    skew: float,
    rules: Rules,
) -> list[Difference]:
    """Return how venue and journal differ, what halts first.

    Cash may differ by 1e-6 of equity, a position by one step of its lattice.

    Args:
        state: What the journal says.
        holdings: What the venue says that the account has.
        open_orders: Open orders of the account, also those of others.
        skew: Venue's clock minus the trader's, seconds.
        rules: What is traded, lattices and limits.
    """
    found = [
        *_cash(state, holdings),
        *_positions(state, holdings, rules),
        *_orders(state, open_orders, rules),
    ]
    if abs(skew) > rules.limits.clock_skew_seconds:
        found.append(Difference("clock", "venue", 0.0, skew, halts=False))
    return sorted(found, key=lambda difference: not difference.halts)


def rows(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """Return differences as plain data, for the journal."""
    return [asdict(difference) for difference in found]


def _cash(state: State, holdings: Holdings) -> Iterator[Difference]:
    worth = max(abs(state.equity), abs(state.cash), 1.0)
    if not abs(holdings.cash - state.cash) <= CASH * worth:
        yield Difference("cash", "account", state.cash, holdings.cash)


def _positions(state: State, holdings: Holdings, rules: Rules) -> Iterator[Difference]:
    for symbol in sorted({*rules.symbols, *state.shares, *holdings.shares}):
        ours, theirs = state.shares.get(symbol, 0.0), holdings.shares.get(symbol, 0.0)
        lattice = rules.lattices.get(symbol)
        step = 0.0 if lattice is None else lattice.step
        # A step itself has no exact binary form, so one step more or less is still equal.
        if not abs(ours - theirs) <= step + EXACT * max(1.0, abs(ours)):
            yield Difference("position", symbol, ours, theirs, halts=symbol in rules.symbols)


def _orders(state: State, open_orders: Sequence[VenueOrder], rules: Rules) -> Iterator[Difference]:
    """Orders under one id twice, orders of ours that the journal lacks, and orders of others."""
    times: dict[str, list[VenueOrder]] = {}
    for order in open_orders:
        times.setdefault(order.id or order.venue_id, []).append(order)
    bars = {bar for bar in (state.bar, state.decided, state.closed) if bar}
    made = {order_id(rules.name, bar, symbol, leg) for bar in bars for symbol in rules.symbols for leg in (0, 1)}
    for name, twins in sorted(times.items()):
        text = " and ".join(f"{order.symbol} {order.shares:+g}" for order in twins)
        if len(twins) > 1 and name in made | set(state.orders):
            yield Difference("order", name, "one", f"{len(twins)}: {text}")
        elif name not in state.orders:
            whose = "none, but the id is ours" if name in made else "none"
            halts = name in made or any(order.symbol in rules.symbols for order in twins)
            yield Difference("order", name, whose, text, halts=halts)
