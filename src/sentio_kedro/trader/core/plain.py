"""The state as plain data and back, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from sentio_kedro.trader.core.data import OpenOrder, State
from sentio_kedro.trader.orders import Order


def state_to_json(state: State) -> dict[str, Any]:
    """Return plain data for a snapshot."""
    data = {one.name: getattr(state, one.name) for one in fields(state)}
    for name, value in data.items():
        if isinstance(value, frozenset):
            data[name] = sorted(value)
        elif isinstance(value, tuple):
            data[name] = [list(part) if isinstance(part, tuple) else part for part in value]
    return data | {"orders": {id: asdict(one) for id, one in state.orders.items()}}


def state_from_json(data: Mapping[str, Any]) -> State:
    """Return the state of plain data."""
    orders = {id: OpenOrder(**{**one, "order": Order(**one["order"])}) for id, one in data["orders"].items()}
    sets = {name: frozenset(data[name]) for name in ("unknown", "sent", "recording")}
    rows = {"sent_at": tuple(data["sent_at"]), "turnover": tuple((row[0], row[1]) for row in data["turnover"])}
    return State(**{**data, "orders": orders, **sets, **rows})
