"""Opening of accounts, the terms that they share, and their positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sentio_kedro.config import SymbolRules, TradingParameters
from sentio_kedro.config.symbols import unknown_symbols
from sentio_kedro.trading.records import (
    ACCOUNT,
    CHARGES,
    DAY_TRADE_SESSIONS,
    HOLDING,
    RULES,
    Accounts,
    Floats,
    Mask,
    Terms,
    records,
)

BASIS_POINT = 1e-4


def allocation(parameters: TradingParameters, assets: int) -> Floats:
    """Exposure of each asset at level 1 ``[A]``, fraction of equity; 0 is never traded.

    Raises:
        ValueError: If ``trading.allocation`` does not name each of the assets.
    """
    given = parameters.allocation
    if not isinstance(given, dict):
        return np.full(assets, parameters.gross_limit / assets if given is None else given)
    if len(given) != assets:
        raise ValueError(
            f"`trading.allocation` must name each of the {assets} assets here, named {sorted(given)}; complete it by "
            "`for_symbols`."
        )
    return np.array([given[symbol] for symbol in sorted(given)])  # symbols of bars are sorted


def for_symbols(parameters: TradingParameters, symbols: Sequence[str]) -> TradingParameters:
    """Complete ``trading.allocation`` with 0, and ``trading.symbols`` with nulls, for all ``symbols`` of the bars.

    What names no symbol stays as it is.

    Raises:
        ValueError: If they name other symbols.
    """
    weights, rules = parameters.allocation, parameters.symbols
    for name, given in (("allocation", weights), ("symbols", rules)):
        unknown = unknown_symbols(given, symbols) if isinstance(given, dict) else ""
        if unknown:
            raise ValueError(
                f"`trading.{name}` must name symbols of the bars, {list(symbols)}, had {unknown}; correct or "
                "remove them."
            )
    if isinstance(weights, dict):
        parameters = replace(parameters, allocation={symbol: weights.get(symbol, 0.0) for symbol in symbols})
    if rules:
        parameters = replace(parameters, symbols={symbol: rules.get(symbol, SymbolRules()) for symbol in symbols})
    return parameters


def terms_of(parameters: TradingParameters, assets: int) -> Terms:
    """Terms of trading as arrays."""
    levels = np.array(parameters.levels)
    smaller = [
        max([0.0, *(abs(x) for x in levels if x * level > 0.0 and abs(x) < abs(level))]) * np.sign(level)
        for level in levels
    ]
    return Terms(
        _rules(parameters), levels, np.array(smaller), allocation(parameters, assets), charges_of(parameters, assets)
    )


def _rules(parameters: TradingParameters) -> np.recarray:
    """Scalars of the parameters as a record array ``[1]``: infinity or 0 where a limit is off."""
    costs, carry, margin, orders, masks = (
        parameters.costs,
        parameters.carry,
        parameters.margin,
        parameters.orders,
        parameters.masks,
    )
    rules = records((1,), RULES)
    values = {
        "gross_limit": parameters.gross_limit,
        "net_limit": _or(parameters.net_limit, np.inf),
        "var_limit": _or(parameters.var_limit, np.inf),
        "var_is_sum": parameters.var_model == "sum",
        "max_position": parameters.max_position,
        "max_drawdown": _or(parameters.max_drawdown, np.inf),
        "drawdown_soft_limit": parameters.drawdown_soft_limit,
        "delisting_return": parameters.delisting_return,
        "max_impact": costs.max_impact,
        "financing_rate": carry.financing_rate,
        "interest_rate": carry.interest_rate,
        "initial_margin": _or(margin.initial, 0.0),
        "maintenance_margin": _or(margin.maintenance, 0.0),
        "liquidation_fee": margin.liquidation_fee,
        "intrabar": margin.intrabar,
        "rebalance_band": orders.rebalance_band,
        "stop_loss": _or(orders.stop_loss, np.inf),
        "take_profit": _or(orders.take_profit, np.inf),
        "flat_at_close": orders.flat_at_close,
        "daily_loss": _or(masks.daily_loss, np.inf),
        "trades_per_day": _or(masks.trades_per_day, np.inf),
        "min_holding_bars": _or(masks.min_holding_bars, 0.0),
        "overnight": masks.overnight,
        "pattern_day_trader": masks.pattern_day_trader,
    }
    for name in RULES.names or ():
        rules[name] = values[name]
    return rules


def charges_of(parameters: TradingParameters, assets: int) -> np.recarray:
    """Return the charges of each asset as records ``[A]``.

    Raises:
        ValueError: If ``trading.symbols`` has rules, but not for each of the assets.
    """
    costs, orders = parameters.costs, parameters.orders
    charges = records((assets,), CHARGES)
    charges.commission = own_values(parameters, assets, "commission_bps", costs.commission_bps) * BASIS_POINT
    general = {
        "commission_per_share": costs.commission_per_share,
        "min_commission": costs.min_commission,
        "borrow_rate": parameters.carry.borrow_rate,
        "lot_size": _or(orders.lot_size, 0.0),
        "min_notional": _or(orders.min_notional, 0.0),
    }
    for name, value in general.items():
        charges[name] = own_values(parameters, assets, name, value)
    return charges


def own_rules(parameters: TradingParameters, assets: int) -> list[SymbolRules]:
    """Return the rules of each of the assets, which are in the order of their names.

    Raises:
        ValueError: If ``trading.symbols`` has rules, but not for each of the assets.
    """
    given = parameters.symbols
    if given and len(given) != assets:
        raise ValueError(
            f"`trading.symbols` must have rules for each of the {assets} assets here, had them for {sorted(given)}; "
            "complete them by `for_symbols`."
        )
    return [given[symbol] for symbol in sorted(given)] or [SymbolRules()] * assets


def own_values(parameters: TradingParameters, assets: int, name: str, general: float) -> Floats:
    """Return the values ``[A]`` of one key of ``trading.symbols``, ``general`` where it is null."""
    return np.array([_or(getattr(rules, name), general) for rules in own_rules(parameters, assets)])


def half_spread_floor(parameters: TradingParameters, price: Floats) -> Floats:
    """Return the least half spread ``[T, A]``, fraction of notional: that of the parameters, and half a tick.

    Args:
        parameters: Costs.
        price: ``[T, A]`` prices that fills are near.
    """
    assets = price.shape[1]
    least = own_values(parameters, assets, "half_spread_bps", parameters.costs.half_spread_bps) * BASIS_POINT
    ticks = own_values(parameters, assets, "tick_size", 0.0)
    return np.maximum(least, 0.5 * ticks / price) if ticks.any() else np.broadcast_to(least, price.shape)


def _or(value: float | None, off: float) -> float:
    return off if value is None else value


def open_accounts(count: int, assets: int, parameters: TradingParameters) -> Accounts:
    """Open ``count`` flat accounts with ``trading.initial_cash``."""
    sessions = parameters.drawdown_sessions if parameters.max_drawdown is not None else None
    accounts = Accounts(
        account=records((count,), ACCOUNT),
        holdings=records((count, assets), HOLDING),
        in_flight=np.zeros((count, assets, parameters.orders.latency_bars)),
        session_highs=np.zeros((count, sessions or 1)),
        day_trades=np.zeros((count, DAY_TRADE_SESSIONS)),
    )
    account = accounts.account
    for name in ("cash", "equity", "peak_equity", "initial_equity", "session_equity"):
        account[name] = parameters.initial_cash
    account.cost_multiplier, account.latency = 1.0, parameters.orders.latency_bars
    account.alive, account.guarded = True, True
    accounts.session_highs[:, 0] = parameters.initial_cash
    return accounts


def hold_positions(accounts: Accounts, position: Floats, close: Floats, bars_held: Floats | float = 1.0) -> None:
    """Give flat accounts positions ``[N, A]`` (fraction of equity), bought at ``close`` ``[N, A]`` without costs."""
    value = position * accounts.account.equity[:, None]
    holdings = accounts.holdings
    holdings.shares = value / close
    holdings.entry_price = np.where(value == 0.0, 0.0, close)
    holdings.bars_held = np.where(value == 0.0, 0.0, bars_held)
    accounts.account.cash = accounts.account.equity - value.sum(axis=-1)


def unaffordable(prices: Floats, parameters: TradingParameters) -> Mask:
    """Mask of the assets of which an account at the start cannot buy a single lot ``[A]``; ``prices`` are ``[A]``.

    Caps of the action mask may forbid more. Assets without an allocation are meant to be left alone.
    """
    largest = max(abs(level) for level in parameters.levels) * allocation(parameters, len(prices))
    value = parameters.initial_cash * np.minimum(largest, parameters.max_position)
    return np.asarray((value > 0.0) & (value < lot_sizes(parameters, len(prices)) * prices))


def lot_sizes(parameters: TradingParameters, assets: int) -> Floats:
    """Return the shares of a lot of each asset ``[A]``; 0 where any number can be traded."""
    return np.asarray(charges_of(parameters, assets).lot_size)
