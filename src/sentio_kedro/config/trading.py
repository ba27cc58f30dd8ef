"""Limits and costs of accounts: the section ``trading``.

The defaults of these classes are the preset ``proportional``. ``presets.py`` holds the values of the other presets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import ArgsKwargs

from sentio_kedro.config.account_rules import (
    CarryParameters,
    CostParameters,
    MarginParameters,
    MaskParameters,
    OrderParameters,
)
from sentio_kedro.config.fields import (
    Positive,
    PositiveFraction,
    TwoOrMore,
    null_is_off,
    parameters,
)
from sentio_kedro.config.presets import PresetName, with_preset
from sentio_kedro.config.symbols import ALWAYS_OPEN, SymbolRules, symbol_problems, symbol_rule_problems

ROUNDING = 1e-9  # of the gross limit, in a sum of weights
MOST_OF_RULE = 2.0  # largest multiple of the rule's position


@parameters
class TradingParameters:
    """Limits and costs of accounts.

    Attributes:
        preset: Values of keys that are not given: ``none`` (no costs), ``proportional`` (commission and half spread, no
            mask but tradability and the position cap), ``realistic``, or ``perpetual`` (realistic, for perpetual
            futures: funding instead of borrow fees, taker fees, liquidation inside the bar).
        initial_cash: Starting equity, quote currency.
        unit: What levels are multiples of: the ``allocation`` of an asset, or the position of the forecast ``rule`` at
            that bar. An agent of the latter reads forecasts, starts from the rule and follows it without evidence.
        levels: Target levels of one asset in that unit: of the allocation -1 is fully short, 0 flat, 1 fully long; of
            the rule 1 is its own position.
        gross_limit: Maximum gross exposure, fraction of equity.
        allocation: Exposure of one asset at level 1, fraction of equity; null is ``gross_limit`` / number of assets.
            With more, a few of many assets may be held. Weights by symbol, such as ``{SPY: 0.5, TLT: 0.25}``, size each
            asset; symbols that they do not name are never traded.
        net_limit: Maximum net exposure, long or short, fraction of equity; null is off.
        var_limit: Maximum value at risk of all positions, a day at ``masks.var_confidence``, fraction of equity; null
            is off.
        var_model: Value at risk of all positions: ``correlation`` (trailing average correlation of all pairs) or
            ``sum`` over assets, an upper bound for any correlation.
        max_position: Maximum exposure in one asset, fraction of equity.
        max_drawdown: Drawdown from the peak at which the account must be flat, fraction; null is off.
        drawdown_soft_limit: Share of ``max_drawdown`` beyond which exposure falls linearly to zero at the limit
            (Grossman and Zhou 1993).
        drawdown_sessions: Sessions whose highest equity is that peak, so that an account at its limit comes back; null
            is all time.
        delisting_return: Return of a position at the end of an asset's bars, fraction of its last price; a short is
            paid no gain.
        calendar: Sessions, a name of the exchange_calendars package such as ``XNYS``; null is a market that never
            closes, whose sessions are UTC days.
        memory_sessions: Sessions that trailing volatility, volume, tail and correlation look back.
        costs: Costs of a trade.
        carry: Costs of holding.
        margin: Margin.
        orders: How orders reach the market.
        masks: Layers of the action mask.
        symbols: Rules of single symbols, which go before the general keys.
    """

    preset: PresetName = "proportional"
    initial_cash: Positive = 1_000_000.0
    unit: Literal["allocation", "rule"] = "allocation"
    levels: list[float] = Field(default_factory=lambda: [-1.0, 0.0, 1.0])
    gross_limit: Positive = 1.0
    allocation: Positive | dict[str, float] | None = None
    net_limit: Positive | None = None
    var_limit: PositiveFraction | None = None
    var_model: Literal["correlation", "sum"] = "correlation"
    max_position: Positive = 1.0
    max_drawdown: Annotated[
        Annotated[float, Field(gt=0.0, lt=1.0)] | None, null_is_off("trading.max_drawdown", 1, "below 1")
    ] = None
    drawdown_soft_limit: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25
    drawdown_sessions: Annotated[int, Field(ge=2, le=100_000)] | None = 126
    delisting_return: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0
    calendar: str | None = None
    memory_sessions: TwoOrMore = 20
    costs: CostParameters = Field(default_factory=CostParameters)
    carry: CarryParameters = Field(default_factory=CarryParameters)
    margin: MarginParameters = Field(default_factory=MarginParameters)
    orders: OrderParameters = Field(default_factory=OrderParameters)
    masks: MaskParameters = Field(default_factory=MaskParameters)
    symbols: dict[str, SymbolRules] = Field(default_factory=dict, exclude_if=lambda rules: not rules)

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:
        if isinstance(given, ArgsKwargs):
            return ArgsKwargs(given.args, with_preset(dict(given.kwargs or {})))
        return with_preset(dict(given)) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _settings_can_be_met(self) -> TradingParameters:
        problems = [*_level_problems(self.levels, self.unit), *_allocation_problems(self), *_leverage_problems(self)]
        problems += [*_session_problems(self), *symbol_problems("trading.masks.no_short", self.masks.no_short)]
        problems += symbol_rule_problems(self.symbols, self.initial_cash * self.gross_limit)
        if problems:
            raise ValueError("; ".join(problems) + ".")
        return self


def _level_problems(levels: list[float], unit: str) -> list[str]:
    of_rule = unit == "rule"
    lowest, highest = (0.0, MOST_OF_RULE) if of_rule else (-1.0, 1.0)
    checks = (
        (0.0 not in levels, "must contain 0 (flat), so that an account can always close its positions"),
        (len(set(levels)) != len(levels), "must not repeat a level"),
        (len(levels) < 2, "must hold at least two levels"),  # noqa: PLR2004 - flat and one more
        (of_rule and 1.0 not in levels, "must contain 1 (the rule's own position) with `trading.unit: rule`"),
        (
            any(not lowest <= level <= highest for level in levels),
            f"must lie in [{lowest:g}, {highest:g}] with `trading.unit: {unit}` (raise `trading.gross_limit` for "
            "leverage)",
        ),
    )
    return [f"`trading.levels` {text}; was {levels}" for wrong, text in checks if wrong]


def _allocation_problems(trading: TradingParameters) -> list[str]:
    if not isinstance(trading.allocation, dict):
        return []
    if problems := symbol_problems("trading.allocation", trading.allocation):
        return problems
    weights, limit = trading.allocation, trading.gross_limit
    refused = {symbol: weight for symbol, weight in weights.items() if weight < 0.0}
    if refused:
        return [f"`trading.allocation` must hold weights of at least 0, had {refused}; `trading.levels` set sides"]
    total = math.fsum(weights.values())
    if not 0.0 < total <= limit * (1.0 + ROUNDING):
        return [
            f"`trading.allocation` must add up to more than 0 and at most `trading.gross_limit` = {limit:g}, was "
            f"{total:g} of {weights}; change the weights or the limit"
        ]
    return []


def _leverage_problems(trading: TradingParameters) -> list[str]:
    problems = []
    gross, initial = trading.gross_limit, trading.margin.initial
    if initial is not None and gross > 1.0 / initial:
        problems.append(
            f"`trading.gross_limit` must be at most 1 / `trading.margin.initial` = {1.0 / initial:g}, was {gross:g}: "
            "levels would exceed the margin; lower one of them"
        )
    if initial is None and trading.margin.maintenance is not None and gross > 1.0 / trading.margin.maintenance:
        problems.append(
            f"`trading.gross_limit` must be at most 1 / `trading.margin.maintenance` = "
            f"{1.0 / trading.margin.maintenance:g}, was {gross:g}: positions would be closed as soon as they were "
            "opened; lower one of them"
        )
    largest = trading.initial_cash * gross
    if trading.orders.min_notional is not None and trading.orders.min_notional > largest:
        problems.append(
            f"`trading.orders.min_notional` must be at most `trading.initial_cash` x `trading.gross_limit` = "
            f"{largest:g}, was {trading.orders.min_notional:g}: no order could ever be sent; lower it"
        )
    return problems


def _session_problems(trading: TradingParameters) -> list[str]:
    masks = trading.masks
    names = [
        name
        for name, on in (
            ("orders.flat_at_close", trading.orders.flat_at_close),
            ("masks.first_minutes", masks.first_minutes is not None),
            ("masks.last_minutes", masks.last_minutes is not None),
            ("masks.overnight: false", not masks.overnight),
        )
        if on
    ]
    if trading.calendar is None and names:
        return [
            f"`trading.calendar` must name the exchange's sessions (such as XNYS) for {', '.join(names)}, was null; "
            "set it, or switch those off"
        ]
    others = sorted(s for s, own in own_calendars(trading, trading.symbols).items() if own != trading.calendar)
    if others and names:
        return [
            f"{', '.join(names)} of `trading` must be off where symbols have calendars of their own, as "
            f"`trading.symbols` gives {', '.join(others[:3])}; switch those off, or give all symbols one calendar"
        ]
    return []


def own_calendars(trading: TradingParameters, symbols: Iterable[str]) -> dict[str, str | None]:
    """Return the calendar of each symbol, if some have another one than the account; else nothing."""
    calendars = {symbol: calendar_of(trading, symbol) for symbol in symbols}
    return calendars if set(calendars.values()) - {trading.calendar} else {}


def is_mixed(trading: TradingParameters) -> bool:
    """Whether some symbol has another calendar than the account."""
    return bool(own_calendars(trading, trading.symbols))


def calendar_of(trading: TradingParameters, symbol: str) -> str | None:
    """Return the calendar of a symbol's bars; null is a market that never closes."""
    rules = trading.symbols.get(symbol)
    own = None if rules is None else rules.calendar
    return trading.calendar if own is None else None if own == ALWAYS_OPEN else own
