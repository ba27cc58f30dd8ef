"""Which orders a decision still needs, and which of them may be sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import copysign, floor, nan

from sentio_kedro.trader import events
from sentio_kedro.trader.core.data import OpenOrder, Rules, State
from sentio_kedro.trader.core.facts import DAY, MINUTE
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.limits import SLACK, Exposure, check_all, denial, shrinks
from sentio_kedro.trader.orders import Lattice, Order
from sentio_kedro.trader.stamps import seconds_of

NOT_ASKED = "it ended, or is asked for again after a comparison"
ROUNDING = 1e-15  # relative error of a quotient: a slack that grows with the number of steps would add some


def deadline(bar: str, rules: Rules) -> float:
    """Return until when orders of a bar may be sent, seconds since 1970."""
    return seconds_of(bar) + rules.orders.decide_within * rules.bar_seconds


def fresh(bar: str, at: float, rules: Rules) -> bool:
    """Whether orders of a bar may still be sent; a simulated venue takes them until the next bar."""
    return at <= (seconds_of(bar) + rules.bar_seconds if rules.simulated else deadline(bar, rules))


def exposure(state: State, at: float, rules: Rules, without: str = "") -> Exposure:
    """Return what limits compare orders with: traded symbols, all open orders counted as filled but ``without``."""
    shares = {symbol: held for symbol, held in state.shares.items() if symbol in rules.symbols}
    for id, one in state.orders.items():
        if id != without:
            symbol = one.order.symbol
            shares[symbol] = shares.get(symbol, 0.0) + one.order.shares - one.filled
    return Exposure(
        equity=state.equity,
        peak_equity=state.peak_equity,
        session_equity=state.session_equity,
        shares=shares,
        prices=state.closes,
        turnover=sum(notional for minute, notional in state.turnover if minute + MINUTE > at - DAY),
        recent=sum(one > at - MINUTE for one in state.sent_at),
        reducing=state.mode == "reducing",
    )


def allowed(state: State, order: Order) -> bool:
    """Whether the mode lets an order be sent."""
    if state.mode == "reducing":
        return shrinks(order.shares, state.shares.get(order.symbol, 0.0))
    return state.mode == "active"


def unsendable(state: State, id: str, at: float, rules: Rules, until: float | None = None) -> str:
    """Return why an order must not be sent now; empty if it may.

    The runtime asks right before each POST, after it has looked for requests of a person. It records ``dropped`` with
    a reason, and does nothing for ``NOT_ASKED``: the order ended, or ``Send`` comes again after a comparison.

    Args:
        state: What is known.
        id: Client order id.
        at: Now.
        rules: What does not change.
        until: End of the venue's window for the order, if it has one.
    """
    one = state.orders.get(id)
    if one is None or one.accepted or one.progress != "queued":
        return NOT_ASKED
    return forbidden(state, one, at, rules, until)


def forbidden(state: State, one: OpenOrder, at: float, rules: Rules, until: float | None = None) -> str:
    """Return why mode or time forbid to send an order; empty if they do not."""
    if not allowed(state, one.order):
        return f"the trader is {state.mode}: {state.reason}"
    if not rules.simulated and at > max(deadline(one.order.bar, rules), until or 0.0):
        return f"it is later than {rules.orders.decide_within:g} of a bar after its bar"
    return ""


def resend_refusal(state: State, one: OpenOrder, at: float, rules: Rules) -> str:
    """Return why an order that the venue does not have is not sent again; empty if it is."""
    if reason := forbidden(state, one, at, rules):
        return reason
    denied = denial(one.order, exposure(state, at, rules, without=one.order.id), rules.limits)
    return f"{denied.limit} would be {denied.value:g}, may be {denied.bound:g}" if denied else ""


def _floored(shares: float, price: float, lattice: Lattice, short: bool) -> float:
    """Return what of an order the venue takes; ``short`` if the position is below zero before or after it."""
    step = (lattice.short_step if short else 0.0) or lattice.step
    steps = abs(shares) / step if step else 0.0
    size = floor(steps + max(SLACK, steps * ROUNDING)) * step if step else abs(shares)
    return copysign(size, shares) if size >= lattice.least and size * price >= lattice.least_notional else 0.0


def missing(state: State, rules: Rules) -> Iterator[Order]:
    """Yield the orders of the newest decision that are neither open nor ended nor denied, on the venue's lattice."""
    for symbol, shares in state.plan.items():
        first = order_id(rules.name, state.decided, symbol)
        held, price = state.shares.get(symbol, 0.0), state.priced.get(symbol, 0.0)
        lattice = rules.lattices.get(symbol, Lattice())
        leg, wanted, closing = 0, shares, False
        if shares is None:
            if first not in state.ended:
                yield Order(first, state.decided, symbol, nan, price)
            continue
        if first not in state.orders and first not in state.ended:
            turns = held * shares < 0.0 and abs(shares) > abs(held) * (1.0 + SLACK)
            closing = abs(held + shares) <= SLACK * abs(held) or (turns and not rules.crosses_zero)
            wanted = -held if closing and held else shares
        else:
            leg, wanted = 1, _beyond_zero(state, symbol, shares, first, rules)
        if not (size := wanted if closing else _floored(wanted, price, lattice, min(held, held + wanted) < 0.0)):
            continue
        id = order_id(rules.name, state.decided, symbol, leg) if leg else first
        if id not in state.orders and id not in state.ended:
            yield Order(id, state.decided, symbol, size, price, leg, closing)


def _beyond_zero(state: State, symbol: str, shares: float, first: str, rules: Rules) -> float:
    """Return what of an order lies beyond zero, once its first leg has closed the position."""
    filled = state.ended.get(first, 0.0)
    closed = filled != 0.0 and symbol not in state.shares
    return shares - filled if not rules.crosses_zero and closed and abs(shares) > abs(filled) * (1.0 + SLACK) else 0.0


def stale(state: State) -> frozenset[str]:
    """Return symbols with open orders of bars before the newest decision."""
    return frozenset(one.order.symbol for one in state.orders.values() if one.order.bar != state.decided)


def planned(state: State, at: float, rules: Rules) -> list[Event]:
    """Return the facts that the newest decision still asks for: orders intended or denied, symbols unknown."""
    if not state.decided:
        return []
    in_time = fresh(state.decided, at, rules) and (rules.simulated or state.bar == state.decided)
    if state.checking and in_time and state.mode != "halted":
        return []  # Orders wait for the comparison as long as they may.
    lost = stale(state) | (frozenset(rules.symbols) if state.checking else frozenset())
    facts, orders = [], []
    if lost and state.mode != "halted" and not state.unknown and state.closed < state.decided:
        facts.append(events.alarm("unknown", state.decided, at, symbols=sorted(lost)))
    for order in missing(state, rules):
        reason = _refusal(state, order, in_time, lost, rules)
        if reason:
            facts.append(events.denied(order, reason, 1.0, 0.0, at))
        else:
            orders.append(order)
    for order, denied in check_all(orders, exposure(state, at, rules), rules.limits) if orders else ():
        facts.append(
            events.denied(order, denied.limit, denied.value, denied.bound, at) if denied else events.intended(order, at)
        )
    return facts


def _refusal(state: State, order: Order, in_time: bool, lost: frozenset[str], rules: Rules) -> str:
    """Return why an order is not sent whatever the limits say; empty if it may be."""
    lattice = rules.lattices.get(order.symbol, Lattice())
    after = state.shares.get(order.symbol, 0.0) + order.shares
    reasons: Mapping[str, bool] = {
        "halted": state.mode == "halted",
        "unknown": order.symbol in lost,
        "decide_within": not in_time,
        "venue": not lattice.tradable or (after < 0.0 and order.shares < 0.0 and not lattice.shortable),
    }
    return next((name for name, holds in reasons.items() if holds), "")
