"""What Alpaca says about orders, executions, cash and splits, in the trader's words. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sentio_kedro.trader.orders import CorporateAction, Fill, Lattice, OrderStatus, VenueOrder

NEW_YORK = ZoneInfo("America/New_York")
DIGITS = 9
"""Digits of a quantity of shares after the point."""
_ENDED: dict[str, OrderStatus] = {
    "filled": "filled",
    "canceled": "cancelled",
    "replaced": "cancelled",
    "expired": "expired",
    "rejected": "refused",
}
_KINDS = {"FEE": "fee", "CFEE": "fee", "PTC": "fee", "PTR": "fee"}
_SPLITS = ("SPLIT", "SSP")
_DATE = re.compile(r"(\d{8})(\d{6})?")  # an activity's id begins with a time of New York

Row = Mapping[str, Any]


def order_of(row: Row) -> VenueOrder:
    """Return an order as the venue tells it; a status that is not known to be an end is none."""
    sign = 1.0 if row["side"] == "buy" else -1.0
    filled = float(row["filled_qty"] or 0.0)
    asked = float(row["qty"] or filled)  # an order of others may be for an amount of money
    status, words = _ENDED.get(row["status"], "working"), str(row["status"])
    reason = str(row.get("reject_reason") or words) if status == "refused" else ""
    return VenueOrder(row["client_order_id"], row["id"], row["symbol"], sign * asked, sign * filled, status, reason)


def fill_of(row: Row, order: str) -> Fill:
    """Return an execution of the order with the client order id ``order``; fees are booked apart, at the day's end."""
    sign = 1.0 if row["side"] == "buy" else -1.0
    price, at = float(row["price"]), seconds_told(row["transaction_time"])
    return Fill(row["id"], order, row["symbol"], sign * float(row["qty"]), price, 0.0, at)


def lattice_of(asset: Row, account: Row) -> Lattice:
    """Return what the venue takes of an asset: fractions from a dollar on, but whole shares of a short position."""
    fractions = bool(asset["fractionable"])
    step = float(asset.get("min_trade_increment") or (10.0**-DIGITS if fractions else 1.0))
    return Lattice(
        step=step,
        least=float(asset.get("min_order_size") or step),
        least_notional=1.0 if fractions else 0.0,
        tick=0.01,
        shortable=bool(asset["shortable"] and asset["easy_to_borrow"] and account["shorting_enabled"]),
        tradable=bool(asset["tradable"] and asset["status"] == "active" and not account["trading_blocked"]),
        short_step=max(step, 1.0),
    )


def actions_of(rows: Iterable[Row]) -> list[CorporateAction]:
    """Return the cash flows and splits among activities, in order of time.

    A split is booked as a pair, the old shares removed and the new ones added; a half without the other is left out
    until that comes. Shares that come or go otherwise (spin-offs, mergers, transfers) have no cash and are left out:
    they show as a difference of positions.
    """
    found, splits = [], defaultdict[tuple[str, str], list[Row]](list)
    for row in rows:
        kind, cash = str(row["activity_type"]), float(row.get("net_amount") or 0.0)
        if kind == "FILL" or row.get("status") == "canceled":
            continue
        if kind in _SPLITS:
            splits[str(row.get("symbol")), str(row["date"])].append(row)
        elif cash:
            found.append(_flow(row, kind, cash))
    found += [action for legs in splits.values() for action in _split(legs)]
    return sorted(found, key=lambda action: (action.at, action.id))


def _flow(row: Row, kind: str, cash: float) -> CorporateAction:
    if kind.startswith("DIV"):
        word = "dividend"
    elif kind.startswith("INT"):
        word = "interest"
    else:
        word = _KINDS.get(kind, "transfer")
    return CorporateAction(row["id"], word, row.get("symbol") or "", cash, 1.0, booked(row))  # type: ignore[arg-type]


def _split(legs: list[Row]) -> list[CorporateAction]:
    legs = sorted(legs, key=lambda leg: (not str(leg.get("description")).startswith("REMOVE"), booked(leg), leg["id"]))
    sizes = [float(leg["qty"]) for leg in legs]
    if len(legs) % 2 or any(old * new >= 0.0 for old, new in _pairs(sizes)):
        return []
    ratio = sum(new for _, new in _pairs(sizes)) / -sum(old for old, _ in _pairs(sizes))
    newest = legs[-1]
    return [CorporateAction(newest["id"], "split", newest["symbol"], 0.0, ratio, max(map(booked, legs)))]


def _pairs(values: list[float]) -> list[tuple[float, float]]:
    half = len(values) // 2
    return list(zip(values[:half], values[half:], strict=False))


def booked(row: Row) -> float:
    """Return when an activity was booked, seconds since 1970: ``created_at``, else the time or date in its id."""
    if row.get("created_at"):
        return seconds_told(row["created_at"])
    found = _DATE.match(row["id"])
    day, clock = found.groups() if found else (str(row["date"]).replace("-", ""), None)
    return datetime.strptime(day + (clock or "000000"), "%Y%m%d%H%M%S").replace(tzinfo=NEW_YORK).timestamp()


def seconds_told(text: str) -> float:
    """Return a time that the venue told, which has up to nine digits of a second; seconds since 1970."""
    when = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
