"""Walks of accounts over market rows: the one loop of rollout, validation, backtest, baselines and serving."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from sentio_kedro.trading.compilation import compiled, compiled_twice
from sentio_kedro.trading.records import Accounts, Floats, Integers, Market, Mask, Records, Scratch, Terms
from sentio_kedro.trading.step.execution import execute
from sentio_kedro.trading.step.limits import set_bounds, set_forbidden_shares, set_legal, set_limits
from sentio_kedro.trading.step.orders import plan_orders
from sentio_kedro.trading.step.policies import Policies, decide, set_account_features


class Ledger(NamedTuple):
    """What a walk of S steps records; a part without steps is not recorded.

    Attributes:
        fills: ``[S, N, A]`` records ``FILL``.
        total: ``[S, N]`` records ``TOTAL``.
        actions: ``[S, N, A]`` index of the level decided for; -1 without one.
        legal: ``[S, N, A, B]`` legal levels.
        features: ``[S, N, A, G]`` account features at the decisions.
        alive: ``[S, N]`` whether the account was alive at the decision.
        layers: ``[S, N, layers]`` share of the levels of all assets that each layer forbids.
    """

    fills: Records
    total: Records
    actions: Integers
    legal: Mask
    features: Floats
    alive: Mask
    layers: Floats


class Route(NamedTuple):
    """Where N accounts walk.

    Attributes:
        rows: ``[P, S]`` decision rows of P paths.
        paths: ``[N]`` path of each account.
        models: ``[N]`` regime model of each account.
        first_step: Step of the first decision, for the policies.
    """

    rows: Integers
    paths: Integers
    models: Integers
    first_step: int


@compiled
def observe(n: int, row: int, model: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch) -> None:
    """Write limits, legal levels and features of account ``n`` at a row to ``scratch``."""
    set_bounds(n, row, model, market, accounts, terms, scratch)
    set_limits(n, row, market, accounts, terms, scratch)
    set_legal(n, row, market, accounts, terms, scratch)
    set_account_features(n, accounts, terms, scratch)


@compiled
def advance(n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch) -> None:
    """Trade the positions requested in ``scratch.limits`` and mark account ``n`` at the close of the next bar."""
    plan_orders(n, row, market, accounts, terms, scratch)
    execute(n, row, market, accounts, terms, scratch)


@compiled
def move_prices(n: int, left: int, row: int, market: Market, accounts: Accounts) -> None:
    """Carry account ``n`` from the close reached after row ``left`` to that of another ``row``, at the same values.

    Shares are rescaled, so that on a path put together of pieces prices go on from the piece before. The two rows may
    lie in different sessions: what a session has lost or traded counts from here. Highs of sessions stay. A position in
    an asset that has no price there yet is paid out at its last one.
    """
    account = accounts.account[n]
    account.session_equity = account.equity
    for a in range(market.facts.shape[1]):
        holding, reached = accounts.holdings[n, a], market.facts[left, a].next_close
        ratio = 0.0 if market.facts[row, a].unlisted else reached / market.facts[row, a].close
        if ratio == 0.0:
            account.cash += holding.shares * reached
            holding.entry_price, holding.bars_held = 0.0, 0.0
        else:
            holding.entry_price /= ratio
        holding.shares *= ratio
        holding.trades_today, holding.opened_today = 0.0, 0.0
        for slot in range(accounts.in_flight.shape[2]):
            accounts.in_flight[n, a, slot] *= ratio


@compiled
def record(ledger: Ledger, s: int, n: int, scratch: Scratch) -> None:
    """Copy a step of account ``n`` to the parts of the ledger that are kept."""
    if s < len(ledger.total):
        ledger.total[s, n] = scratch.total[n]
    for a in range(scratch.fills.shape[1]):
        if s < len(ledger.fills):
            ledger.fills[s, n, a] = scratch.fills[n, a]
        if s < len(ledger.actions):
            ledger.actions[s, n, a] = scratch.actions[n, a]
            for g in range(scratch.features.shape[2]):
                ledger.features[s, n, a, g] = scratch.features[n, a, g]
            for b in range(scratch.legal.shape[2]):
                ledger.legal[s, n, a, b] = scratch.legal[n, a, b]


@compiled
def walk_account(
    n: int,
    route: Route,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    scratch: Scratch,
    ledger: Ledger,
) -> None:
    """Let account ``n`` trade over its path, in place."""
    rows = route.rows[route.paths[n]]
    for s in range(len(rows)):
        row = rows[s]
        if s > 0 and row != rows[s - 1] + 1:
            move_prices(n, rows[s - 1], row, market, accounts)
        observe(n, row, route.models[n], market, accounts, terms, scratch)
        if s < len(ledger.alive):
            ledger.alive[s, n] = accounts.account[n].alive
        decide(n, row, route.first_step + s, market, terms, policies, scratch)
        if s < len(ledger.layers):
            everything = (0, market.facts.shape[1])
            set_forbidden_shares(everything, n, row, market, accounts, terms, scratch, ledger.layers[s, n])
        advance(n, row, market, accounts, terms, scratch)
        record(ledger, s, n, scratch)


def _walk(
    route: Route,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    scratch: Scratch,
    ledger: Ledger,
) -> None:
    """Walk all accounts."""
    for n in prange(len(route.paths)):
        signed = int(np.int64(n))  # in threads it is a uint64, for which all would be compiled again
        walk_account(signed, route, market, accounts, terms, policies, scratch, ledger)


walk_serial, walk_parallel = compiled_twice(_walk)
