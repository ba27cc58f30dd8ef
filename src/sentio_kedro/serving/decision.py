"""Compiled decisions at the newest bar: what was decided at the bar before is filled, then accounts decide."""

from __future__ import annotations

from typing import NamedTuple

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Accounts, Floats, Integers, Market, Mask, Records, Scratch, Terms
from sentio_kedro.trading.step.execution import execute
from sentio_kedro.trading.step.limits import set_forbidden_shares
from sentio_kedro.trading.step.orders import plan_orders
from sentio_kedro.trading.step.policies import Policies, decide
from sentio_kedro.trading.step.walk import observe


class Executed(NamedTuple):
    """How the step carried N accounts from the bar before to the newest.

    Attributes:
        facts: ``[A]`` records ``FACTS``.
        terms: Costs.
        before: The accounts at the close of the bar before.
        fills: ``[N, A]`` records ``FILL``.
        total: ``[N]`` records ``TOTAL``.
        orders: ``[N, A]`` shares traded at the open; what was to be traded, of an account that was ruined there.
        called: ``[N]`` whether a margin call sold all at the open.
    """

    facts: Records
    terms: Terms
    before: Accounts
    fills: Records
    total: Records
    orders: Floats
    called: Mask


@compiled
def fill_orders(
    requested: Floats,
    withheld: Mask,
    row: int,
    models: Integers,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    scratch: Scratch,
) -> None:
    """Carry accounts, in place, from a row to the next close by what they ``requested`` ``[N, A]`` at the row.

    Orders ``withheld`` ``[N, A]`` were not sent. The others are what they were decided as: where one was to make room
    for another, the execution cuts the other. A margin call is the broker's own sale.
    """
    for n in range(len(models)):
        observe(n, row, models[n], market, accounts, terms, scratch)
        for a in range(requested.shape[1]):
            scratch.limits[n, a].requested = requested[n, a]
        plan_orders(n, row, market, accounts, terms, scratch)
        for a in range(requested.shape[1]):
            if withheld[n, a] and not scratch.bounds[n].called:
                scratch.limits[n, a].order = 0.0
        execute(n, row, market, accounts, terms, scratch)


@compiled
def decide_all(
    row: int,
    models: Integers,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    policies: Policies,
    scratch: Scratch,
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
        requested: ``[N, A]`` filled with the positions asked for, fraction of equity.
        layers: ``[N, A, layers]`` filled with the share of the levels that each layer of the mask cuts or forbids.
    """
    for n in range(len(models)):
        observe(n, row, models[n], market, accounts, terms, scratch)
        decide(n, row, 0, market, terms, policies, scratch)
        for a in range(layers.shape[1]):
            requested[n, a] = scratch.limits[n, a].requested
            set_forbidden_shares((a, a + 1), n, row, market, accounts, terms, scratch, layers[n, a])
        plan_orders(n, row, market, accounts, terms, scratch)
