"""One account on a few bars with exact numbers: markets, accounts and steps for tests."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from sentio_kedro.config import CostParameters, OrderParameters, TradingParameters
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.records import CLOCK, FACTS, LAYERS, Accounts, Market, records
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies
from sentio_kedro.trading.step.walk import Ledger

FREE = CostParameters(commission_bps=0.0, half_spread_bps=0.0)
DAY = 1.0 / 365.0
FAR = 2**62
UNLIMITED = ("max_shares", "var_cap", "volatility_cap", "kelly_cap", "liquidity")


def orders(**changes: Any) -> OrderParameters:
    return OrderParameters(**({"rebalance_band": 0.0} | changes))


def trading(**changes: Any) -> TradingParameters:
    """No costs, no band, and room for any position."""
    return TradingParameters(
        **({"costs": FREE, "calendar": "XNYS", "max_position": 10.0, "orders": orders()} | changes)
    )


def bar(close: Any = 100.0, opening: Any = 100.0, next_close: Any = 100.0, **facts: Any) -> Market:
    """Market of one step; a fact of each asset, or the same for all. ``regime`` are its two caps."""
    assets = len(close) if isinstance(close, list) else 1
    row, clock = records((1, assets), FACTS), records((1,), CLOCK)
    row.close, row.open, row.next_close, row.split = close, opening, next_close, 1.0
    row.high, row.low = np.maximum(row.open, row.next_close), np.minimum(row.open, row.next_close)
    row.tradable = row.fillable = row.shortable = True
    row.unit = row.full = 1.0 / assets
    for name in UNLIMITED:
        row[name] = inf
    clock.bars_to_session_end = FAR
    regime = facts.pop("regime", (inf, inf))
    for name, value in facts.items():
        (row if name in FACTS.names else clock)[name] = value
    return Market(row, clock, np.array([[regime]]))


def bars(*steps: Market) -> Market:
    """Steps one after another."""
    facts, clock, regimes = zip(*steps, strict=True)
    joined = (np.concatenate(part) for part in (facts, clock, regimes))
    return Market(*(part.view(np.recarray) if part.dtype.names else part for part in joined))


def account(equity: float = 1000.0, assets: int = 1, latency: int = 0, **changes: Any) -> Accounts:
    """One flat account, with changed fields of ``account`` and ``holdings``."""
    setting = trading(initial_cash=equity, orders=orders(latency_bars=latency))
    made = open_accounts(1, assets, setting)
    for name, value in changes.items():
        part = made.account if name in made.account.dtype.names else made.holdings
        part[name] = value
    return made


def holding(shares: list[float], prices: list[float], cash: float = 0.0, **changes: Any) -> Accounts:
    """One account with positions bought at ``prices`` a bar ago."""
    equity = cash + float(np.dot(shares, prices))
    held = [1.0 if n else 0.0 for n in shares]
    entry = [p if n else 0.0 for n, p in zip(shares, prices, strict=True)]
    start = {"cash": cash, "shares": shares, "bars_held": held, "entry_price": entry}
    return account(equity, len(shares), **(start | changes))


def walk(
    accounts: Accounts, levels: list[Any], market: Market, parameters: TradingParameters, **options: Any
) -> Ledger:
    """Walk over the market by levels of each step (for each asset, or the same for all); None sends no order."""
    assets, facts = market.facts.shape[1], market.facts.copy()
    terms = terms_of(parameters, assets)
    facts.unit = terms.allocation
    wishes = [level if isinstance(level, list) else [level] * assets for level in levels]
    targets = np.array([[[nan if x is None else x for x in row]] for row in wishes], dtype=float) * terms.allocation
    policies = make_policies(np.full(accounts.size, TARGETS), assets, len(terms.levels), targets=targets)
    return simulate(market._replace(facts=facts), accounts, policies, terms, **options)


def settle(accounts: Accounts, level: Any, market: Market, parameters: TradingParameters) -> tuple[Any, Any]:
    """One step; its ledger by asset and in total."""
    ledger = walk(accounts, [level], market, parameters)
    fills, total = ledger.fills[0, 0], ledger.total[0, 0]
    return (fills[0] if len(fills) == 1 else fills), total


def legal(accounts: Accounts, market: Market, parameters: TradingParameters) -> list[list[bool]]:
    """Legal levels of each asset of the first account."""
    return walk(accounts.copy(), [None], market, parameters, trace=True).legal[0, 0].tolist()


def objecting(accounts: Accounts, market: Market, parameters: TradingParameters) -> set[str]:
    """Layers that cut or forbid a level of any asset."""
    shares = walk(accounts.copy(), [None], market, parameters, layers=True).layers[0, 0]
    return {layer for layer, share in zip(LAYERS, shares, strict=True) if share > 0.0}


def shares(accounts: Accounts) -> list[float]:
    return accounts.holdings.shares[0].tolist()


def equity(accounts: Accounts) -> float:
    return float(accounts.account.equity[0])
