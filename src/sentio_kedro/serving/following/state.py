"""The whole state of a session with one account as plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.serving.live_market import RuleState
from sentio_kedro.trading.accounts import open_accounts
from sentio_kedro.trading.records import Accounts, Floats


class SessionState(NamedTuple):
    """What a session goes on from, besides bars.

    Attributes:
        bar: Bar at whose close it stands.
        accounts: Its account ``[1]``.
        rule: Positions of the forecast rule; null without one.
        closed: Bar from which on its decisions close all positions; null if they do not.
    """

    bar: np.datetime64
    accounts: Accounts
    rule: RuleState | None = None
    closed: np.datetime64 | None = None


def stamp_of(bar: np.datetime64) -> str:
    """Return the end of a bar as text, ``2026-01-02T15:30:00Z``."""
    return f"{np.datetime_as_string(bar, unit='s')}Z"


def state_to_json(state: SessionState, symbols: Sequence[str], **more: str) -> dict[str, Any]:
    """Return a state as plain data, to the last bit, with a digest and ``more`` texts."""
    account = state.accounts.part(0)
    values: dict[str, Any] = {
        "bar": stamp_of(state.bar),
        "symbols": list(symbols),
        "account": {name: account.account[name].item() for name in account.account.dtype.names},
        "holdings": {name: account.holdings[name].tolist() for name in account.holdings.dtype.names},
        "in_flight": account.in_flight.tolist(),
        "session_highs": account.session_highs.tolist(),
        "day_trades": account.day_trades.tolist(),
        "rule": None if state.rule is None else {name: x.tolist() for name, x in state.rule._asdict().items()},
        "closed": None if state.closed is None else stamp_of(state.closed),
        **more,
    }
    return values | {"digest": _digest(values)}


def state_from_json(values: Mapping[str, Any], symbols: Sequence[str], trading: TradingParameters) -> SessionState:
    """Read what ``state_to_json`` returned.

    Raises:
        ValueError: If it was changed, or is of other symbols or another latency or memory.
    """
    rest = {name: value for name, value in values.items() if name != "digest"}
    if values.get("digest") != _digest(rest):
        raise ValueError(
            f"The account state at {values.get('bar')} is not the one that was written: its digest is "
            f"{_digest(rest)}, was {values.get('digest')}; take that of an earlier decision."
        )
    if list(values["symbols"]) != list(symbols):
        raise ValueError(
            f"The account state is of {values['symbols']}, the agents trade {list(symbols)}; close the account and "
            "begin another."
        )
    accounts = open_accounts(1, len(symbols), trading)
    for name, value in values["account"].items():
        accounts.account[name] = value
    for name, value in values["holdings"].items():
        accounts.holdings[name] = value
    for name in ("in_flight", "session_highs", "day_trades"):
        part, given = getattr(accounts, name), np.array(values[name], np.float64).reshape(1, *np.shape(values[name]))
        if given.shape != part.shape and given.size + part.size:
            raise ValueError(
                f"`{name}` of the account state has the shape {list(given.shape[1:])}, the agents need "
                f"{list(part.shape[1:])}; they have another latency or memory: close the account and begin another."
            )
        part[:] = given.reshape(part.shape)
    rule = values["rule"]
    return SessionState(
        bar=moment(values["bar"]),
        accounts=accounts,
        rule=None if rule is None else RuleState(*(_table(rule[name], len(symbols)) for name in RuleState._fields)),
        closed=None if values["closed"] is None else moment(values["closed"]),
    )


def _table(rows: Any, assets: int) -> Floats:
    return np.array(rows, np.float64).reshape(-1, assets)


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
