"""Compiled decisions at the newest bar: what was decided at the bar before is filled, then accounts decide."""

from __future__ import annotations

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.limits import set_forbidden_shares
from sentio_kedro.trading.orders import plan_orders
from sentio_kedro.trading.policies import HeadScratch, Policies, decide
from sentio_kedro.trading.records import Accounts, Floats, Integers, Market, Scratch, Terms
from sentio_kedro.trading.walk import advance, observe


@compiled
def fill_orders(
    requested: Floats, row: int, models: Integers, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch
) -> None:
    """Carry accounts, in place, from a row to the next close by what they ``requested`` ``[N, A]`` at the row."""
    for n in range(len(models)):
        room, called = observe(n, row, models[n], market, accounts, terms, scratch)
        for a in range(requested.shape[1]):
            scratch.limits[n, a].requested = requested[n, a]
        advance(n, row, room, called, market, accounts, terms, scratch)


@compiled
def decide_all(
    row: int,
    models: Integers,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    scratch: Scratch,
    heads: HeadScratch,
    requested: Floats,
    layers: Floats,
) -> None:
    """Let all accounts decide at a row. Their limits, features and actions are those of ``scratch``.

    Args:
        row: Row of ``market`` and of the policies.
        models: ``[N]`` regime model of each account.
        market: Facts of the row.
        accounts: N accounts; they stay as they are.
        terms: Limits and costs.
        policies: What they decide by.
        scratch: Filled with features, legal levels, actions, and limits with targets and orders.
        heads: Memory of the networks.
        requested: ``[N, A]`` filled with the positions asked for, fraction of equity.
        layers: ``[N, A, layers]`` filled with the share of the levels that each layer of the mask cuts or forbids.
    """
    facts, rules = market.facts[row], terms.rules[0]
    for n in range(len(models)):
        account, holdings, limits = accounts.account[n], accounts.holdings[n], scratch.limits[n]
        clock, regime = market.clock[row], market.regimes[row, models[n]]
        room, called = observe(n, row, models[n], market, accounts, terms, scratch)
        decide(policies, n, 0, row, terms, scratch, heads)
        for a in range(len(limits)):
            requested[n, a] = limits[a].requested
            set_forbidden_shares(
                account,
                holdings[a : a + 1],
                accounts.day_trades[n],
                facts[a : a + 1],
                clock,
                regime,
                limits[a : a + 1],
                terms.levels,
                terms.allocation[a : a + 1],
                room,
                rules,
                layers[n, a],
            )
        plan_orders(account, holdings, facts, clock, room, called, rules, limits)
