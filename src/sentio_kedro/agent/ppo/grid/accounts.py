"""Compiled accounts on the position grid: what they hold and see, and what each of their actions leads to."""

from __future__ import annotations

from math import exp, floor, inf
from typing import NamedTuple

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Accounts, Floats, Integers, Market, Mask, Records, Scratch, Terms
from sentio_kedro.trading.step.limits import MIN_EQUITY, set_bounds, set_legal, set_limits
from sentio_kedro.trading.step.policies import set_account_features
from sentio_kedro.trading.step.walk import advance


class GridArrays(NamedTuple):
    """Memory of a grid of P levels at the S decisions of W windows, and at the bar after them.

    Attributes:
        account: ``[S + 1, W, P, A, G]`` account features.
        legal: ``[S, W, P, A, B]`` legal actions.
        rewards: ``[S, W, P, A, B]`` rewards.
        below: ``[S, W, P, A, B]`` replica below the position after each action.
        above: ``[S, W, P, A, B]`` replica above it.
        weight: ``[S, W, P, A, B]`` weight of ``above`` in the value of that position.
        position: ``[S + 1, W, P, A]`` positions, fraction of equity.
    """

    account: Floats
    legal: Mask
    rewards: Floats
    below: Integers
    above: Integers
    weight: Floats
    position: Floats


class GridAccounts(NamedTuple):
    """One account of the grid, and the accounts that its actions are tried in.

    Attributes:
        joint: An account in all assets.
        alone: An account in one asset.
        scratch: Memory of the former's step.
        scratch_alone: Memory of the latter's.
        market_alone: Market of the latter, of one row.
        terms_alone: Terms of the latter.
    """

    joint: Accounts
    alone: Accounts
    scratch: Scratch
    scratch_alone: Scratch
    market_alone: Market
    terms_alone: Terms


@compiled
def walk_grid(
    rows: Integers,
    market: Market,
    terms: Terms,
    order: Integers,
    shift: Integers,
    lost: Floats,
    held: Floats,
    risk_price: float,
    accounts: GridAccounts,
    found: GridArrays,
) -> None:
    """Fill the grid ``found``.

    Args:
        rows: ``[W, S + 1]``.
        market: Facts of the path.
        terms: Limits and costs.
        order: ``[P]`` indices of the levels in rising order.
        shift: ``[W, A]``.
        lost: ``[W, P]`` drawdown of each account.
        held: ``[W, P, A]`` log of the holding time of each position, bars.
        risk_price: Price of risk a bar, in units of reward: half of it times the squared share of the largest position.
        accounts: Memory.
        found: The grid, zeroed.
    """
    windows, length = rows.shape
    for w in range(windows):
        for s in range(length):
            for p in range(len(order)):
                row, before = rows[w, s], rows[w, max(s - 1, 0)]
                open_replica(p, row, before, market, terms, shift[w], lost[w, p], held[w, p], accounts)
                look(row, market, terms, accounts, found.account[s, w, p], found.position[s, w, p])
                if s + 1 < length:
                    act((s, w, p), row, market, terms, order, shift[w], risk_price, accounts, found)


@compiled
def lone_cap(cap: float, fact: Records, room: float, rules: Records) -> float:
    """Cut a cap to what the joint limits leave of a position that is the account's only one, fraction of equity."""
    cap = min(cap, rules.gross_limit * room, rules.net_limit)
    return min(cap, rules.var_limit / fact.value_at_risk) if rules.var_limit < inf else cap


@compiled
def sized_level(level: float, room: float, cap: float, fact: Records) -> float:
    """Position of a level with a headroom and within a cap, fraction of equity."""
    position: float = level * fact.unit * room
    if position < 0.0 and not fact.shortable:
        return 0.0
    return min(max(position, -cap), cap)


@compiled
def open_replica(
    p: int,
    row: int,
    before: int,
    market: Market,
    terms: Terms,
    shift: Integers,
    lost: float,
    held: Floats,
    accounts: GridAccounts,
) -> None:
    """Open the account of replica ``p`` at a row, its positions sized by the limits at the row ``before``."""
    account, holdings, rules = accounts.joint.account[0], accounts.joint.holdings[0], terms.rules[0]
    account.peak_equity = account.initial_equity / (1.0 - lost)
    account.cash = account.initial_equity
    for a in range(len(holdings)):
        holdings[a].shares, holdings[a].entry_price, holdings[a].bars_held = 0.0, 0.0, 0.0
    limit_joint(before, market, terms, accounts)
    room, limits = accounts.scratch.bounds[0].headroom, accounts.scratch.limits[0]
    closed = before < row and rules.flat_at_close and market.clock[before].bars_to_session_end == 0
    for a in range(len(holdings)):
        close, level, decided = (
            market.facts[row, a].close,
            terms.levels[(p + shift[a]) % len(terms.levels)],
            market.facts[before, a],
        )
        cap = 0.0 if closed else lone_cap(limits[a].cap, decided, room, rules)
        value = sized_level(level, room, cap, decided) * account.equity
        if value != 0.0:
            holdings[a].shares, holdings[a].entry_price = value / close, close
            holdings[a].bars_held = floor(exp(held[a]))
        account.cash -= value


@compiled
def limit_joint(row: int, market: Market, terms: Terms, accounts: GridAccounts) -> None:
    """Limits of the joint account; a random combination of positions is no reason to call its margin."""
    set_bounds(0, row, 0, market, accounts.joint, terms, accounts.scratch)
    accounts.scratch.bounds[0].called = False
    set_limits(0, row, market, accounts.joint, terms, accounts.scratch)


@compiled
def look(row: int, market: Market, terms: Terms, accounts: GridAccounts, features: Floats, position: Floats) -> None:
    """Write what the joint account sees and holds at a row to ``features`` ``[A, G]`` and ``position`` ``[A]``."""
    scratch = accounts.scratch
    limit_joint(row, market, terms, accounts)
    set_account_features(0, accounts.joint, terms, scratch)
    for a in range(len(position)):
        for g in range(features.shape[1]):
            features[a, g] = scratch.features[0, a, g]
        features[a, 1] = min(features[a, 1], 1.0)  # a random combination may be more than the account could hold
        position[a] = scratch.limits[0, a].position


@compiled
def act(
    place: tuple[int, int, int],
    row: int,
    market: Market,
    terms: Terms,
    order: Integers,
    shift: Integers,
    risk_price: float,
    accounts: GridAccounts,
    found: GridArrays,
) -> None:
    """Execute each action of each asset, and find the next bar's positions on either side of where it leads.

    ``place`` is that of step, window and level in the grid.
    """
    s, w, p = place
    scratch, size = accounts.scratch, len(order)
    set_legal(0, row, market, accounts.joint, terms, scratch)
    for a in range(len(shift)):
        fact = market.facts[row, a]
        side = -1.0 if fact.unit < 0.0 else 1.0
        room = scratch.bounds[0].headroom
        cap = lone_cap(scratch.limits[0, a].cap, fact, room, terms.rules[0])
        accounts.market_alone.facts[0, 0], accounts.market_alone.clock[0] = fact, market.clock[row]
        accounts.terms_alone.charges[0] = terms.charges[a]
        for b in range(size):
            reward, position = outcome(a, terms.levels[b] * fact.unit, accounts)
            below, above = 0, 1
            high = sized_level(terms.levels[order[above]], room, cap, fact)
            while above + 1 < size and side * (position - high) >= 0.0:
                below, above = above, above + 1
                high = sized_level(terms.levels[order[above]], room, cap, fact)
            low = sized_level(terms.levels[order[below]], room, cap, fact)
            found.legal[s, w, p, a, b] = scratch.legal[0, a, b]
            share = position / fact.full if fact.full > 0.0 else 0.0
            found.rewards[s, w, p, a, b] = reward - 0.5 * risk_price * share * share
            found.below[s, w, p, a, b] = (order[below] - shift[a]) % size
            found.above[s, w, p, a, b] = (order[above] - shift[a]) % size
            found.weight[s, w, p, a, b] = min(max((position - low) / (high - low), 0.0), 1.0) if high != low else 0.0


@compiled
def outcome(a: int, requested: float, accounts: GridAccounts) -> tuple[float, float]:
    """Reward of a position requested in asset ``a``, and the position at the next close, fraction of equity.

    The account holds nothing but its position in the asset, whose facts and charges are those of ``market_alone`` and
    ``terms_alone``.
    """
    alone, scratch = accounts.alone, accounts.scratch_alone
    account, holding, fact = alone.account[0], alone.holdings[0, 0], accounts.market_alone.facts[0, 0]
    alone.account[0], alone.holdings[0, 0] = accounts.joint.account[0], accounts.joint.holdings[0, a]
    scratch.limits[0, 0], scratch.bounds[0] = accounts.scratch.limits[0, a], accounts.scratch.bounds[0]
    account.cash = account.equity - holding.shares * fact.close
    scratch.limits[0, 0].requested = requested
    advance(0, 0, accounts.market_alone, alone, accounts.terms_alone, scratch)
    fill, total = scratch.fills[0, 0], scratch.total[0]
    costs = fill.commission + fill.spread + fill.impact + fill.borrow + fill.funding + total.financing
    reward = (fill.price_pnl + fill.dividends - costs) / total.equity_before / fact.reward_unit
    return reward, holding.shares * fact.next_close / max(account.equity, MIN_EQUITY)
