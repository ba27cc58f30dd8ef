"""What the execution step did at a bar, as fills, charges and splits that fold to the account's cash and shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sentio_kedro.serving.decision import Executed
from sentio_kedro.trader.clock import seconds_of
from sentio_kedro.trader.contract import Charge
from sentio_kedro.trader.orders import Fill
from sentio_kedro.trading.records import FILL, Records, records
from sentio_kedro.trading.step.trades import trade_costs

COSTS = ("commission", "spread", "impact")


def fills_of(executed: Executed, symbols: Sequence[str], bar: str, orders: Mapping[str, str]) -> list[Fill]:
    """Return the fills of the first account at a bar: at the open, and of exits inside the bar.

    Args:
        executed: What the step did.
        symbols: A assets.
        bar: Stamp of the bar.
        orders: Ids of the orders that reached the market at its open by symbol; a fill of another is the broker's own.
    """
    fills, at = [], seconds_of(bar)
    for a, symbol in enumerate(symbols):
        fact, fill = executed.facts[a], executed.fills[0, a]
        traded = float(executed.orders[0, a]) if fill.traded > 0.0 else 0.0
        sold = float(fill.filled_shares - fill.shares)
        whole = {name: float(fill[name]) for name in COSTS}
        entry = _entry_costs(executed, a, traded) if traded and sold else whole if traded else dict.fromkeys(COSTS, 0.0)
        if traded:
            key = f"{bar}|{symbol}|entry"
            fills.append(Fill(key, orders.get(symbol, ""), symbol, traded, float(fact.open), 0.0, at, entry))
        if sold:
            price = float(fact.next_close if math.isnan(fill.exit_price) else fill.exit_price)
            costs = {name: whole[name] - entry[name] for name in COSTS}
            fills.append(Fill(f"{bar}|{symbol}|exit", "", symbol, -sold, price, 0.0, at, costs))
    return fills


def _entry_costs(executed: Executed, a: int, traded: float) -> dict[str, float]:
    """Costs of what was traded at the open, where the bar's include those of an exit."""
    fact, terms, fill = executed.facts[a], executed.terms, records((1,), FILL)[0]
    multiplier = float(executed.before.account.cost_multiplier[0])
    trade_costs(traded, fact.open, fact, multiplier, terms.charges[a], terms.rules[0].max_impact, fill)
    return {name: float(fill[name]) for name in COSTS}


def charges_of(executed: Executed, symbols: Sequence[str]) -> list[Charge]:
    """Return the cash that moved without a trade."""
    found = [
        Charge(kind, symbol, float(amount))
        for a, symbol in enumerate(symbols)
        for kind, amount in _carry(executed.fills[0, a])
        if amount
    ]
    financing = float(executed.total.financing[0])
    return [*found, Charge("financing", "", -financing)] if financing else found


def ruin_of(executed: Executed, fills: Sequence[Fill], charges: Sequence[Charge], cash: float) -> Charge:
    """Return what is left between fills and charges and the ``cash`` of an account that was ruined at the bar.

    Its positions are gone at prices of the bar, and a broker bears the loss beyond its equity.
    """
    paid = sum(-fill.shares * fill.price - fill.fee - sum(fill.costs.values()) for fill in fills)
    before = float(executed.before.account.cash[0])
    return Charge("ruin", "", cash - before - paid - sum(charge.cash for charge in charges))


def _carry(fill: Records) -> tuple[tuple[str, float], ...]:
    return ("dividend", fill.dividends), ("borrow", -fill.borrow), ("funding", -fill.funding)


def splits_of(executed: Executed, symbols: Sequence[str]) -> dict[str, float]:
    """Return new shares per old of the symbols that were split."""
    ratios = executed.facts.split.tolist()
    return {symbol: ratio for symbol, ratio in zip(symbols, ratios, strict=True) if ratio != 1.0}
