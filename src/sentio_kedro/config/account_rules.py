"""Sections of ``trading``: costs, carry, margin, orders and masks; their defaults are the preset ``proportional``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sentio_kedro.config.fields import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveFraction,
    TwoOrMore,
    null_is_off,
    parameters,
)


@parameters
class CostParameters:
    """Costs of a trade.

    Attributes:
        commission_bps: Commission, bps of traded notional.
        commission_per_share: Commission, quote currency per share.
        min_commission: Minimum commission of a fill, quote currency.
        half_spread: Source of the half spread: ``constant`` (``half_spread_bps``), ``bars`` (half of the bars' column
            ``spread``) or ``estimated`` (Abdi and Ranaldo 2017, from high, low and close).
        half_spread_bps: Half of the quoted spread, bps of traded notional, paid on every fill. With ``bars`` and
            ``estimated`` it is the minimum.
        spread_bars: Bars that the estimator averages over.
        impact: Coefficient of the square-root law: impact = coefficient x daily volatility x
            sqrt(order / daily volume), a fraction of traded notional; 0 is off.
        max_impact: Largest impact of a fill, fraction of traded notional: beyond a day's volume the law says nothing.
    """

    commission_bps: NonNegative = 1.0
    commission_per_share: NonNegative = 0.0
    min_commission: NonNegative = 0.0
    half_spread: Literal["constant", "bars", "estimated"] = "constant"
    half_spread_bps: NonNegative = 1.0
    spread_bars: TwoOrMore = 96
    impact: NonNegative = 0.0
    max_impact: PositiveFraction = 0.1


@parameters
class CarryParameters:
    """Costs of holding, accrued by elapsed time: a weekend costs three nights.

    Attributes:
        borrow_rate: Fee for borrowed shares, fraction of short notional a year; 0 is off.
        financing_rate: Interest paid on negative cash, fraction a year; 0 is off.
        interest_rate: Interest earned on positive cash, fraction a year; 0 is off.
        funding: Charge the bars' column ``funding`` (perpetual futures) on the position at each close.
    """

    borrow_rate: NonNegative = 0.0
    financing_rate: NonNegative = 0.0
    interest_rate: NonNegative = 0.0
    funding: bool = False


@parameters
class MarginParameters:
    """Margin requirements.

    Attributes:
        initial: Minimum equity per unit of gross exposure after a fill, fraction; null is off.
        maintenance: Equity per unit of gross exposure, fraction, below which all positions are closed at the next open;
            null is off.
        intrabar: Close all positions inside a bar at the prices at which ``maintenance`` is reached on the way from its
            opens to its worst prices (lows of longs, highs of shorts).
        liquidation_fee: Fee of such a close, fraction of notional, on top of the costs of a trade.
    """

    initial: PositiveFraction | None = None
    maintenance: PositiveFraction | None = None
    intrabar: bool = False
    liquidation_fee: NonNegative = 0.0

    @model_validator(mode="after")
    def _maintenance_below_initial(self) -> MarginParameters:
        if self.intrabar and self.maintenance is None:
            raise ValueError(
                "`trading.margin.maintenance` must be set for `trading.margin.intrabar`, was null; set it, or switch "
                "`intrabar` off."
            )
        if self.maintenance is not None and self.maintenance > (self.initial or 1.0):
            raise ValueError(
                f"`trading.margin.maintenance` must be at most `trading.margin.initial` = {self.initial or 1.0}, was "
                f"{self.maintenance}: a position would be closed as soon as it was opened; lower it."
            )
        return self


@parameters
class OrderParameters:
    """Orders and fills.

    Attributes:
        latency_bars: Delay of an order beyond the next open, bars.
        rebalance_band: A position on the side of its target, and nearer to it than this fraction of the target, is not
            traded; closing orders always are.
        participation: Largest fill, fraction of a bar's volume, stops and margin calls included; null is off. The rest
            of an order lapses: the next decision states its target anew.
        participation_volume: Volume that ``participation`` is a fraction of: ``expected`` (trailing mean, known before
            the open) or ``bar`` (all that the fill bar will trade, which nobody knows at its open).
        lot_size: Orders are multiples of this number of shares, rounded towards zero; null is off.
        min_notional: Minimum value of an order, quote currency. Smaller orders are not sent unless they close a
            position; null is off.
        stop_loss: Loss from the average entry price at which a position is closed inside a bar, fraction; null is off.
        take_profit: Gain from the average entry price at which a position is closed inside a bar, fraction; null
            is off.
        flat_at_close: Close all positions at the last close of each session of ``trading.calendar``.
    """

    latency_bars: Annotated[int, Field(ge=0, le=32)] = 0
    rebalance_band: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25
    participation: PositiveFraction | None = None
    participation_volume: Literal["expected", "bar"] = "expected"
    lot_size: Annotated[Positive | None, null_is_off("trading.orders.lot_size")] = None
    min_notional: Annotated[Positive | None, null_is_off("trading.orders.min_notional")] = None
    stop_loss: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    take_profit: Positive | None = None
    flat_at_close: bool = False


@parameters
class MaskParameters:
    """Layers of the action mask; no layer forbids reducing a position.

    Positions are re-sized to the caps of value at risk, volatility and regimes; other layers forbid increases.

    Attributes:
        daily_loss: Loss since the last close of the previous session, fraction of equity, after which positions can
            only be reduced until the session ends; null is off.
        position_var: Maximum value at risk of a position, a day at ``var_confidence``, fraction of the asset's
            allocation; null is off.
        var_confidence: Confidence of the value at risk: trailing volatility times a quantile of the empirical law.
        target_volatility: Maximum daily volatility of a position, fraction of the asset's allocation: cap = allocation
            x target / trailing volatility; null is off.
        regime_exposure: Allowed exposure in each regime, calm to volatile, fraction of the allocation, weighted by the
            filtered posterior. With fewer states than entries the last entries apply; null is off.
        crisis_probability: Filtered probability of the most volatile regime above which positions can only be
            reduced; null is off.
        first_minutes: Minutes after a session's open in which positions can only be reduced; null is off.
        last_minutes: Minutes before a session's close in which positions can only be reduced; null is off.
        overnight: Allow positions overnight; false makes the session's last decision flat.
        liquidity: Maximum position, fraction of the daily volume; null is off.
        no_short: Symbols that must not be sold short; ``["*"]`` is all.
        trades_per_day: Fills of an asset in one session after which its position can only be reduced; null is off.
        pattern_day_trader: Accounts below 25,000 with three day trades in five sessions can only reduce (FINRA 4210).
        min_holding_bars: Bars during which a new position can be kept or reduced but not enlarged or flipped; null
            is off.
        kelly_fraction: Cap of increases = fraction x |trailing mean| / trailing variance of the asset's returns; null
            is off.
        kelly_bars: Bars of that mean and variance.
    """

    daily_loss: PositiveFraction | None = None
    position_var: PositiveFraction | None = None
    var_confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.99
    target_volatility: Positive | None = None
    regime_exposure: list[Fraction] | None = None
    crisis_probability: Fraction | None = None
    first_minutes: Annotated[Positive | None, null_is_off("trading.masks.first_minutes")] = None
    last_minutes: Annotated[Positive | None, null_is_off("trading.masks.last_minutes")] = None
    overnight: bool = True
    liquidity: PositiveFraction | None = None
    no_short: list[str] = Field(default_factory=list)
    trades_per_day: Count | None = None
    pattern_day_trader: bool = False
    min_holding_bars: Annotated[Count | None, null_is_off("trading.masks.min_holding_bars")] = None
    kelly_fraction: Positive | None = None
    kelly_bars: TwoOrMore = 480
