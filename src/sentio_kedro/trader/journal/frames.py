"""The journal's events as frames: accounts, trades, decisions and bars. Ends of bars and times are in UTC."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import isclose, nan
from typing import Any

import pandas as pd

from sentio_kedro.trader.journal.store import JournalReader, Stored

_COSTS = ("commission", "spread", "impact")
_OUTCOMES = ("denied", "refused", "dropped", "unknown", "intended", "sent", "accepted", "cancelled", "filled")
"""How far an order came; of the legs of an order the first of these counts."""

_ACCOUNTS = ("stamp", "equity", "cash", "gross_exposure", "drawdown", "transfers", "orders", "mode")
_TRADES = ("id", "order", "symbol", "shares", "price", "fee", *_COSTS, "at", "bar", "decided", "reference_price")
_DECISIONS = ("stamp", "symbol", "action", "target", "legal", "order", "filled", "outcome", "reason")
_STATES = ("stamp", "model", "account")
_BARS = ("timestamp", "symbol", "open", "high", "low", "close", "volume", "source", "arrived")


def accounts_frame(events: Iterable[Stored]) -> pd.DataFrame:
    """Return one row for each decision.

    Columns: ``stamp`` (end of the bar), ``equity``, ``cash``, ``gross_exposure`` (fraction of equity), ``drawdown``
    (from the highest equity so far, fraction), ``transfers`` (cash that a person moved since the row before),
    ``orders`` (number), ``mode`` (``active``, ``reducing`` or ``halted``).
    """
    rows: list[dict[str, Any]] = []
    mode, moved, peak = "active", 0.0, 0.0
    for event in (one.event for one in events):
        body = event.body
        if event.kind == "cash":
            moved += body["cash"] if body["kind"] == "transfer" else 0.0
        elif event.kind == "decided":
            equity, peak = body["equity"], max(peak, body["equity"])
            held = sum(
                abs(shares) * body["closes"].get(symbol, nan) for symbol, shares in body["shares"].items() if shares
            )
            exposure, drawdown = (held / equity, 1.0 - equity / peak) if equity else (nan, 1.0)
            row = (event.key, equity, body["cash"], exposure, drawdown, moved, len(body["orders"]), mode)
            rows.append(dict(zip(_ACCOUNTS, row, strict=True)))
            moved = 0.0
        elif (mode, event.kind) != ("halted", "reducing"):  # which is no way out of it
            mode = event.kind
    return _framed(rows, _ACCOUNTS, stamps=("stamp",))


def states_frame(events: Iterable[Stored]) -> pd.DataFrame:
    """Return the first and the newest decision of the agents that decide now.

    Columns: ``stamp`` (end of the bar), ``model`` (its name), ``account`` (the whole account state, JSON).
    """
    model, first, last = "", None, None
    for event in (one.event for one in events):
        if event.kind == "decided":
            last = (event.key, model, event.body["account"])
            first = last if first is None else first
        elif event.body["model"] != model:
            model, first = event.body["model"], None
    rows = [dict(zip(_STATES, (*one[:2], json.dumps(one[2])), strict=True)) for one in (first, last) if first and one]
    return _framed(rows, _STATES, stamps=("stamp",))


def trades_frame(events: Iterable[Stored]) -> pd.DataFrame:
    """Return one row for each fill.

    Columns: ``id`` (the venue's), ``order`` (ours; empty if none), ``symbol``, ``shares`` (signed), ``price``, ``fee``,
    ``commission``, ``spread`` and ``impact`` (of simulated fills), ``at`` (the venue's time), ``bar`` (end of the bar
    of the first account that has it), ``decided`` (end of the bar of the decision), ``reference_price`` (close there)
    and ``slippage_bps`` (price, spread and impact against it; positive is a cost). A fill of no order of ours has none
    of the last three.
    """
    rows: list[dict[str, Any]] = []
    orders: dict[str, Mapping[str, Any]] = {}
    held = 0  # fills that an account has
    for event in (one.event for one in events):
        if event.kind == "intended":
            orders[event.key] = event.body
        elif event.kind == "decided":
            for row in rows[held:]:
                row["bar"] = event.key
            held = len(rows)
        else:
            rows.append(_trade(event.body, orders.get(event.body["order"])))
    frame = _framed(rows, (*_TRADES, "slippage_bps"), stamps=("bar", "decided"))
    return frame.assign(at=pd.to_datetime(frame["at"].astype("float64"), unit="s", utc=True))


def _trade(fill: Mapping[str, Any], order: Mapping[str, Any] | None) -> dict[str, Any]:
    costs, shares = {name: fill["costs"].get(name, 0.0) for name in _COSTS}, fill["shares"]
    modelled = costs["spread"] + costs["impact"]  # which the price of a simulated fill leaves out
    return {
        **fill,
        **costs,
        "bar": None,
        "decided": order["bar"] if order else None,
        "reference_price": order["price"] if order else nan,
        "slippage_bps": 1e4 * (shares * (fill["price"] - order["price"]) + modelled) / (abs(shares) * order["price"])
        if order
        else nan,
    }


def decisions_frame(events: Iterable[Stored]) -> pd.DataFrame:
    """Return one row for each decision and symbol.

    Columns: ``stamp`` (end of the bar), ``symbol``, ``action`` (index of the level, -1 without one), ``target``
    (position once orders are filled, fraction of equity), ``legal`` (levels that were allowed, one 0 or 1 each),
    ``order`` (signed shares, 0 for none), ``filled`` (signed shares so far), ``outcome`` (``denied``, ``refused``,
    ``dropped``, ``unknown``, ``intended``, ``sent``, ``accepted``, ``cancelled`` with a rest unfilled, or ``filled``;
    empty without an order) and ``reason`` (the limit that denied it, or the venue's words).
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    orders: dict[str, Mapping[str, Any]] = {}
    told: dict[str, tuple[str, str]] = {}
    filled: dict[str, float] = defaultdict(float)
    for event in (one.event for one in events):
        body = event.body
        if event.kind == "decided":
            rows |= {(event.key, symbol): _decision(event.key, symbol, body) for symbol in body["targets"]}
        elif event.kind in ("intended", "denied"):
            orders[event.key], told[event.key] = body, (event.kind, body.get("limit", ""))
        elif event.kind == "filled":
            filled[body["order"]] += body["shares"]
        else:
            told[body["order"]] = event.kind, body.get("reason", body.get("status", ""))
    for key, order in orders.items():
        row = rows.get((order["bar"], order["symbol"]))
        if row is not None:
            whole = isclose(filled[key], order["shares"], rel_tol=1e-9)
            outcome, reason = ("filled", "") if whole else told[key]
            row["filled"] += filled[key]
            if not row["outcome"] or _OUTCOMES.index(outcome) < _OUTCOMES.index(row["outcome"]):
                row |= {"outcome": outcome, "reason": reason}
    return _framed(list(rows.values()), _DECISIONS, stamps=("stamp",))


def _decision(stamp: str, symbol: str, body: Mapping[str, Any]) -> dict[str, Any]:
    legal = "".join(str(int(allowed)) for allowed in body["legal"].get(symbol, ()))
    action, order = body["actions"].get(symbol, -1), body["orders"].get(symbol, 0.0)
    row = (stamp, symbol, action, body["targets"][symbol], legal, order, 0.0, "", "")
    return dict(zip(_DECISIONS, row, strict=True))


def bars_frame(events: Iterable[Stored]) -> pd.DataFrame:
    """Return bars as decided on, a long frame like the catalog's ``bars``, with ``source`` and ``arrived``.

    ``timestamp`` is the end of the bar, ``arrived`` when the last bar of its stamp came.
    """
    rows = [
        {"timestamp": one.event.key, "symbol": symbol, **values, **{name: one.event.body[name] for name in _BARS[-2:]}}
        for one in events
        for symbol, values in one.event.body["bars"].items()
    ]
    more = sorted({name for row in rows for name in row} - set(_BARS))
    frame = _framed(rows, (*_BARS[:-2], *more, *_BARS[-2:]), stamps=("timestamp",))
    return frame.assign(arrived=pd.to_datetime(frame["arrived"].astype("float64"), unit="s", utc=True))


def _framed(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], stamps: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(columns))
    return frame.assign(**{name: pd.to_datetime(frame[name], utc=True) for name in stamps})


FRAMES = {
    "accounts": (accounts_frame, ("decided", "cash", "active", "reducing", "halted")),
    "trades": (trades_frame, ("decided", "intended", "filled")),
    "decisions": (decisions_frame, ("decided", "intended", "filled", *_OUTCOMES[:-1])),
    "bars": (bars_frame, ("bar",)),
    "states": (states_frame, ("decided", "model")),
}
"""Frames by name, with the kinds of events that they read."""


def frame_of(reader: JournalReader, name: str) -> pd.DataFrame:
    """Return a frame of a journal, one of ``FRAMES``."""
    make, kinds = FRAMES[name]
    return make(reader.events(kinds=kinds))
