"""Random accounts on random markets under random rules."""

from __future__ import annotations

from math import inf, nan
from typing import NamedTuple

import numpy as np

from sentio_kedro.trading.records import (
    ACCOUNT,
    CHARGES,
    CLOCK,
    FACTS,
    HOLDING,
    RULES,
    Accounts,
    Market,
    Terms,
    records,
)
from sentio_kedro.trading.step.policies import (
    ACCOUNT_FEATURES,
    LANES,
    NEVER,
    SAMPLED,
    TARGETS,
    Heads,
    Policies,
    make_policies,
    with_heads,
)

LEVELS = ([-1.0, 0.0, 1.0], [-1.0, -0.5, 0.0, 0.5, 1.0], [0.0, 1.0], [-1.0, 0.0], [-0.3, 0.0, 0.2, 1.0])
STEPS, ACCOUNTS, CASH = 20, 8, 10_000.0


class Case(NamedTuple):
    market: Market
    accounts: Accounts
    terms: Terms
    policies: Policies
    models: np.ndarray


def random_rules(rng: np.random.Generator) -> np.recarray:
    """Every rule on or off, with any value."""

    def maybe(low: float, high: float, off: float, share: float = 0.4) -> float:
        return rng.uniform(low, high) if rng.random() < share else off

    gross = rng.choice([0.7, 1.0, 2.0, 4.0])
    values = {
        "gross_limit": gross,
        "net_limit": maybe(0.1, 2.0, inf),
        "var_limit": maybe(0.02, 0.5, inf),
        "max_position": maybe(0.2, 4.0, 10.0, 0.5),
        "max_drawdown": maybe(0.05, 0.99, inf, 0.5),
        "drawdown_soft_limit": rng.uniform(0.0, 0.9),
        "max_impact": rng.choice([0.01, 0.1]),
        "financing_rate": maybe(0.01, 0.5, 0.0),
        "interest_rate": maybe(0.01, 0.5, 0.0),
        "initial_margin": maybe(0.5, 1.0, 0.0) / gross,
        "maintenance_margin": rng.uniform(0.2, 0.9) / gross,
        "liquidation_fee": maybe(0.001, 0.02, 0.0),
        "rebalance_band": rng.choice([0.0, 0.1, 0.25, 0.5]),
        "stop_loss": maybe(0.005, 0.3, inf, 0.5),
        "take_profit": maybe(0.005, 0.3, inf, 0.5),
        "delisting_return": rng.choice([0.0, -0.3, 0.2, -1.0]),
        "daily_loss": maybe(0.002, 0.2, inf),
        "trades_per_day": rng.integers(1, 4) if rng.random() < 0.3 else inf,
        "min_holding_bars": rng.integers(2, 4) if rng.random() < 0.3 else 0.0,
    }
    rules = records((1,), RULES)
    for name in RULES.names:
        rules[name] = values[name] if name in values else rng.random() < 0.4
    if rng.random() < 0.3 and not rules.intrabar[0]:
        rules.maintenance_margin = 0.0
    rules.overnight = rng.random() < 0.7
    return rules


def random_charges(rng: np.random.Generator, assets: int) -> np.recarray:
    """Costs and smallest orders of each asset."""

    def maybe(low: float, high: float) -> np.ndarray:
        return np.where(rng.random(assets) < 0.4, rng.uniform(low, high, assets), 0.0)

    charges = records((assets,), CHARGES)
    charges.commission = rng.uniform(0.0, 0.003, assets)
    charges.commission_per_share, charges.min_commission = maybe(0.001, 0.1), maybe(0.01, 20.0)
    charges.borrow_rate, charges.min_notional = maybe(0.01, 0.5), maybe(1.0, 2000.0)
    charges.lot_size = rng.choice([0.0, 0.0, 1.0, 0.37], assets)
    return charges


def random_market(rng: np.random.Generator, assets: int) -> Market:
    """Bars with gaps, halts, splits, dividends, delistings, sessions, thin volumes, calm and violent prices."""
    shape = (STEPS, assets)
    facts, clock = records(shape, FACTS), records((STEPS,), CLOCK)
    size = rng.choice([0.003, 0.02, 0.1, 0.3])
    gap, move = (size * rng.standard_normal(shape) for _ in range(2))
    gone = (rng.random(shape) < 0.01).cumsum(0) > 0
    facts.delisted = gone & ~np.vstack([np.zeros((1, assets), bool), gone[:-1]])
    facts.fillable = ~gone & (rng.random(shape) < 0.93)
    facts.tradable = ~gone & (rng.random(shape) < 0.93)
    facts.split = np.where(facts.fillable & (rng.random(shape) < 0.05), rng.choice([2.0, 3.0, 0.5, 1.5], shape), 1.0)
    change = np.where(facts.fillable, gap + move, 0.0) - np.log(facts.split)
    facts.next_close = rng.uniform(5.0, 60.0, assets) * np.exp(change.cumsum(0))
    facts.close = np.vstack([facts.next_close[:1] / np.exp(change[:1]), facts.next_close[:-1]])
    facts.open = np.where(facts.fillable, facts.next_close * np.exp(-move), facts.next_close)
    wick, tail = (size * np.abs(rng.standard_normal(shape)) for _ in range(2))
    facts.high = np.maximum(facts.open, facts.next_close) * np.exp(np.where(facts.fillable, wick, 0.0))
    facts.low = np.minimum(facts.open, facts.next_close) * np.exp(np.where(facts.fillable, -tail, 0.0))
    facts.dividend = np.where(facts.fillable & (rng.random(shape) < 0.1), 0.03 * facts.open, 0.0)
    typical = CASH / facts.next_close
    facts.half_spread = rng.uniform(0.0, 0.003, shape)
    facts.impact = rng.choice([0.0, 1.0]) * rng.uniform(0.0, 0.05, shape) / np.sqrt(typical)
    facts.max_shares = rng.uniform(0.0, 0.6, shape) * typical if rng.random() < 0.4 else inf
    facts.funding = rng.choice([0.0, 0.01]) * rng.standard_normal(shape)
    facts.value_at_risk = rng.uniform(0.02, 0.3, shape)
    for name, share in (("var_cap", 0.3), ("volatility_cap", 0.3)):
        facts[name] = rng.uniform(0.05, 2.0, shape) if rng.random() < share else inf
    facts.kelly_cap = rng.choice([0.0, 0.2, 0.7, 3.0], shape) if rng.random() < 0.3 else inf
    facts.liquidity = rng.uniform(0.05, 2.0, shape) * CASH if rng.random() < 0.3 else inf
    facts.shortable = (rng.random(assets) < 0.8)[None]
    facts.unit = 1.0 / assets
    clock.years = rng.choice([1 / 365, 3 / 365, 0.1], STEPS)
    clock.correlation = rng.uniform(-0.3, 1.0, STEPS)
    clock.session_starts = rng.random(STEPS) < rng.choice([0.0, 0.25, 1.0], p=[0.2, 0.7, 0.1])
    ends = np.flatnonzero(clock.session_starts) - 1
    clock.bars_to_session_end = [min([e - t for e in ends if e >= t], default=2**62) for t in range(STEPS)]
    clock.quiet = rng.random(STEPS) < 0.1
    regimes = np.full((STEPS, 2, 2), inf)
    if rng.random() < 0.4:
        regimes = rng.choice([0.0, 0.3, 1.0, inf], (STEPS, 2, 2), p=[0.1, 0.3, 0.3, 0.3])
    return Market(facts, clock, regimes)


def uniform_heads(rows: int, agents: int, assets: int, levels: int) -> Heads:
    """Networks to which every legal level is as likely as any other."""
    return Heads(
        np.zeros((rows, agents, 1, assets, 1)),
        np.zeros((agents, 1, ACCOUNT_FEATURES, 1)),
        np.zeros((1, agents, 1, 1, LANES * -(-levels // LANES))),
        np.zeros((1, agents, 1, levels)),
        np.full(agents, nan),
        np.ones(1, np.bool_),
    )


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    assets, levels = int(rng.integers(1, 5)), np.array(LEVELS[rng.integers(len(LEVELS))])
    market, rules, slots = random_market(rng, assets), random_rules(rng), int(rng.choice([0, 1, 3]))
    smaller = [np.sign(x) * max([0.0, *(abs(y) for y in levels if y * x > 0 and abs(y) < abs(x))]) for x in levels]
    share = float(rules.gross_limit[0]) / assets * rng.choice([1.0, 1.0, 2.0])
    terms = Terms(rules, levels, np.array(smaller), np.full(assets, share), random_charges(rng, assets))
    units = np.random.default_rng([seed, 1]).choice([1.0, 0.4, 0.0, -0.7], market.facts.shape)  # of a rule
    market.facts.unit = share * (units if seed % 2 else 1.0)
    accounts = Accounts(
        records((ACCOUNTS,), ACCOUNT),
        records((ACCOUNTS, assets), HOLDING),
        np.zeros((ACCOUNTS, assets, slots)),
        np.zeros((ACCOUNTS, int(rng.choice([1, 2, 5])))),
        np.zeros((ACCOUNTS, 5)),
    )
    account = accounts.account
    for name in ("cash", "equity", "peak_equity", "initial_equity", "session_equity"):
        account[name] = CASH * rng.choice([1.0, 3.0], ACCOUNTS) if name == "cash" else account.cash
    accounts.session_highs[:, 0] = account.cash
    account.alive = True
    account.guarded = rng.random(ACCOUNTS) < 0.8
    account.latency = rng.integers(0, slots + 1, ACCOUNTS)
    account.cost_multiplier = rng.choice([0.0, 1.0, 3.0], ACCOUNTS, p=[0.1, 0.7, 0.2])
    targets = rng.choice(levels, (STEPS, 3, assets)) * share
    targets = np.where(rng.random(targets.shape) < 0.3, rng.uniform(-1.5, 1.5, targets.shape) * share, targets)
    targets[rng.random(targets.shape) < 0.2] = nan
    policies = make_policies(
        rng.choice([SAMPLED, TARGETS], ACCOUNTS),
        assets,
        len(levels),
        source=rng.integers(0, 3, ACCOUNTS),
        draws=rng.integers(0, 4, ACCOUNTS),
        starts=rng.choice([0, 0, 3], ACCOUNTS),
        closes=rng.choice([NEVER, NEVER, 15], ACCOUNTS),
        targets=targets,
        noise=rng.gumbel(size=(STEPS, 4, assets, len(levels))),
    )
    policies = with_heads(policies, uniform_heads(len(market.facts), 3, assets, len(levels)))
    return Case(market, accounts, terms, policies, rng.integers(0, 2, ACCOUNTS))
