"""Walks of accounts over market rows: the one loop of rollout, validation, backtest, baselines and serving."""

from __future__ import annotations

from typing import NamedTuple

from numba import prange

from sentio_kedro.trading.compilation import compiled, compiled_parallel
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.limits import headroom, margin_call, set_forbidden_shares, set_legal, set_limits
from sentio_kedro.trading.orders import plan_orders
from sentio_kedro.trading.policies import HeadScratch, Policies, decide, set_account_features
from sentio_kedro.trading.records import Accounts, Floats, Integers, Market, Mask, Records, Scratch, Terms


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


@compiled
def observe(
    n: int, row: int, model: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch
) -> tuple[float, bool]:
    """Compute limits, legal levels and features of account ``n`` at a row. Returns headroom and margin call."""
    account, holdings, rules = accounts.account[n], accounts.holdings[n], terms.rules[0]
    facts, limits = market.facts[row], scratch.limits[n]
    room, called = headroom(account, rules), margin_call(account, holdings, facts, rules)
    set_limits(
        account,
        holdings,
        accounts.in_flight[n],
        accounts.day_trades[n],
        facts,
        market.clock[row],
        market.regimes[row, model],
        terms.allocation,
        room,
        called,
        rules,
        limits,
    )
    set_legal(account, facts, limits, terms.levels, terms.smaller, terms.allocation, rules, scratch.legal[n])
    set_account_features(holdings, limits, terms.allocation, room, rules.gross_limit, scratch.features[n])
    return room, called


@compiled
def advance(
    n: int,
    row: int,
    room: float,
    called: bool,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    scratch: Scratch,
) -> None:
    """Trade the positions requested in ``scratch.limits`` and mark account ``n`` at the close of the next bar."""
    account, holdings, rules = accounts.account[n], accounts.holdings[n], terms.rules[0]
    facts, clock, limits = market.facts[row], market.clock[row], scratch.limits[n]
    factor = plan_orders(account, holdings, facts, clock, room, called, rules, limits)
    scratch.total[n].headroom = room
    execute(
        account,
        holdings,
        accounts.in_flight[n],
        accounts.session_highs[n],
        accounts.day_trades[n],
        facts,
        clock,
        called,
        factor,
        rules,
        limits,
        scratch.fills[n],
        scratch.total[n],
    )


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
    path: int,
    model: int,
    rows: Integers,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    first_step: int,
    scratch: Scratch,
    heads: HeadScratch,
    ledger: Ledger,
) -> None:
    """Let account ``n`` trade over decision rows ``rows[path]``, in place."""
    for s in range(rows.shape[1]):
        row, step = rows[path, s], first_step + s
        if s > 0 and row != rows[path, s - 1] + 1:
            move_prices(n, rows[path, s - 1], row, market, accounts)
        room, called = observe(n, row, model, market, accounts, terms, scratch)
        if s < len(ledger.alive):
            ledger.alive[s, n] = accounts.account[n].alive
        decide(policies, n, step, row, terms, scratch, heads)
        if s < len(ledger.layers):
            set_forbidden_shares(
                accounts.account[n],
                accounts.holdings[n],
                accounts.day_trades[n],
                market.facts[row],
                market.clock[row],
                market.regimes[row, model],
                scratch.limits[n],
                terms.levels,
                terms.allocation,
                room,
                terms.rules[0],
                ledger.layers[s, n],
            )
        advance(n, row, room, called, market, accounts, terms, scratch)
        record(ledger, s, n, scratch)


@compiled
def walk_serial(
    rows: Integers,
    paths: Integers,
    models: Integers,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    first_step: int,
    scratch: Scratch,
    heads: HeadScratch,
    ledger: Ledger,
) -> None:
    """Walk all accounts in one thread: account n over ``rows[paths[n]]`` with the regime model ``models[n]``."""
    for n in range(len(paths)):
        walk_account(
            n,
            paths[n],
            models[n],
            rows,
            market,
            accounts,
            terms,
            policies,
            first_step,
            scratch,
            heads,
            ledger,
        )


@compiled_parallel
def walk_parallel(
    rows: Integers,
    paths: Integers,
    models: Integers,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    first_step: int,
    scratch: Scratch,
    heads: HeadScratch,
    ledger: Ledger,
) -> None:
    """``walk_serial`` with accounts spread over threads; never called by two threads at a time."""
    for n in prange(len(paths)):
        walk_account(
            n,
            paths[n],
            models[n],
            rows,
            market,
            accounts,
            terms,
            policies,
            first_step,
            scratch,
            heads,
            ledger,
        )
