"""How and when an order goes to Alpaca. Pure.

Documented: ``opg`` takes part in the opening auction alone, in whole shares, and is rejected between 9:28 and 19:00
New York; ``day`` takes any number of shares, and after the close waits for the next session; extended hours want a
limit and ``day``. ``ioc`` is open to some accounts only, so limits are ``day`` too: the trader cancels what still works
before it decides again, and the venue cancels it at the close.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import inf
from typing import Any, Literal

from sentio_kedro.trader.brokers.alpaca_answers import DIGITS, NEW_YORK
from sentio_kedro.trader.clock import seconds_of
from sentio_kedro.trader.orders import Order

Style = Literal["open", "market", "limit"]
DAY = 86_400.0
_LATEST, _EARLIEST = time(9, 27), time(19, 0)  # of orders for the opening auction; a minute before the venue's own
_PREMARKET, _AFTERMARKET = time(4, 0), time(20, 0)


def style_of(style: str, bar_seconds: float) -> Style:
    """Return the style that ``auto`` stands for: at the open of daily bars, else a limit with a collar."""
    if style == "auto":
        return "open" if bar_seconds >= DAY else "limit"
    return style  # type: ignore[return-value]


def fields_of(order: Order, style: Style, collar_bps: float, extended: bool) -> dict[str, Any]:
    """Return the fields of a request.

    Raises:
        ValueError: If it has no price to keep a distance from, or no shares.
    """
    size = round(abs(float(order.shares)), DIGITS)
    if size == 0.0 or (style == "limit" and not 0.0 < order.price < inf):
        raise ValueError(f"it has {order.shares} shares and price {order.price}, and both must be told")
    fields: dict[str, Any] = {
        "symbol": order.symbol,
        "qty": size,
        "side": "buy" if order.shares > 0.0 else "sell",
        "time_in_force": "opg" if style == "open" and size.is_integer() else "day",
        "client_order_id": order.id,
    }
    if style == "limit":
        fields["limit_price"] = float(collar(order.price, order.shares, collar_bps))
        fields |= {"extended_hours": True} if extended else {}
    return fields


def collar(price: float, shares: float, bps: float) -> Decimal:
    """Return the limit price of an order: on the venue's grid, and never farther from ``price`` than ``bps``."""
    side = 1 if shares > 0.0 else -1
    edge = Decimal(repr(float(price))) * (1 + side * Decimal(repr(float(bps))) / 10_000)
    grid = Decimal("0.01") if edge >= 1 else Decimal("0.0001")
    return edge.quantize(grid, rounding=ROUND_FLOOR if side > 0 else ROUND_CEILING)


def window_of(
    order: Order, style: Style, extended: bool, told: Mapping[str, Any], now: float, within: float
) -> tuple[float, float] | None:
    """Return from when until when an order may be sent; null is now.

    Args:
        order: The order.
        style: For the open: from 19:00 New York on the bar's day until 9:27 of the next session. Else: during the
            session, or from the next one's begin on.
        extended: Whether the session is from 4:00 to 20:00, on a half day too.
        told: The venue's answer about its clock: ``is_open``, ``next_open``.
        now: Seconds since 1970.
        within: Seconds after the begin of a session within which orders may be sent.
    """
    opens = datetime.fromisoformat(told["next_open"]).astimezone(NEW_YORK)
    clock = datetime.fromtimestamp(now, NEW_YORK)
    bar_day = datetime.fromtimestamp(seconds_of(order.bar) - 1.0, NEW_YORK)  # a day's bar ends at the midnight after
    if style == "open":
        end = _at(opens, _LATEST)
        begin = clock if _LATEST <= clock.time() < _EARLIEST and clock.date() != opens.date() else bar_day
        return min(_at(begin, _EARLIEST), end), end
    if told["is_open"]:
        return None
    if extended:
        before = clock.date() == opens.date() and clock.time() >= _PREMARKET
        after = clock.date() == bar_day.date() and clock.time() < _AFTERMARKET  # the bar says that it was a session
        if before or after:
            return None
        opens = opens.replace(hour=_PREMARKET.hour, minute=_PREMARKET.minute)
    return opens.timestamp(), opens.timestamp() + within


def _at(day: datetime, clock: time) -> float:
    return datetime.combine(day.date(), clock, NEW_YORK).timestamp()
