"""Step data from the market: prices, costs and the caps that do not depend on accounts."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import VOLATILITY_MEMORY, MarketTensors
from sentio_kedro.trading.accounts import allocation
from sentio_kedro.trading.costs import BASIS_POINT
from sentio_kedro.trading.step_data import StepData, level_table

DAYS_PER_YEAR = 365.0  # rates are fractions a year of 365 days
MIN_VOLATILITY = 1e-12
MIN_VOLUME = 1e-9


def trading_lookback(parameters: TradingParameters) -> int:
    """Count the bars before a decision that trailing volatility, volume, spread and Kelly's moments read."""
    longest = VOLATILITY_MEMORY + 1
    if parameters.costs.half_spread == "estimated":
        longest = max(longest, parameters.costs.spread_bars + 2)
    if parameters.masks.kelly_fraction is not None:
        longest = max(longest, parameters.masks.kelly_bars + 1)
    return longest


def make_step_data(
    market: MarketTensors, rows: Tensor, parameters: TradingParameters, posterior: Tensor | None = None
) -> StepData:
    """Look up the market data of the steps from decision rows ``[S, ...]``.

    Args:
        market: The market.
        rows: Decision rows, with as many dimensions as the accounts have, plus one. No order is filled after the last
            row of the market.
        parameters: Costs and limits that are on.
        posterior: ``[S, ..., K]`` filtered regime probabilities; None takes the market's.

    Raises:
        ValueError: If ``masks.regime_exposure`` has fewer entries than there are regimes.
    """
    last = market.bars - 1
    after = (rows + 1).clamp_max(last)
    present = market.tradable if market.present is None else market.present
    close, orders, costs = market.close[rows], parameters.orders, parameters.costs
    split = None if market.split is None else market.split[after]
    return StepData(
        close=close,
        tradable=market.tradable[rows],
        open=market.open[after],
        next_close=market.close[after],
        fillable=present[after] & (rows < last)[..., None],
        half_spread=_half_spread(market, after, parameters),
        **_bar_extremes(market, after, parameters),
        impact=_impact(market, rows, split, costs.impact) if costs.impact else None,
        max_shares=_max_shares(market, after, orders.participation),
        split=split,
        dividend=None if market.dividend is None else market.dividend[after],
        funding=market.funding[after] if parameters.carry.funding and market.funding is not None else None,
        delisted=None if market.delisted is None else market.delisted[after],
        **_clock_facts(market, rows, after, parameters),
        **_risk_caps(market, rows, parameters),
        regime_cap=_regime_cap(market.posterior[rows] if posterior is None else posterior, parameters, close.shape[-1]),
        levels=level_table(parameters, close.shape[-1], close),
        shortable=market.shortable,
    )


def _half_spread(market: MarketTensors, after: Tensor, parameters: TradingParameters) -> Tensor:
    minimum = parameters.costs.half_spread_bps * BASIS_POINT
    if parameters.costs.half_spread == "constant" or market.spread is None:
        return market.close.new_full((*after.shape, 1), minimum)
    return (0.5 * market.spread[after]).clamp_min(minimum)


def _bar_extremes(market: MarketTensors, after: Tensor, parameters: TradingParameters) -> dict[str, Tensor | None]:
    if parameters.orders.stop_loss is None and parameters.orders.take_profit is None:
        return {"high": None, "low": None}
    both = torch.maximum(market.open, market.close), torch.minimum(market.open, market.close)
    high, low = (x if x is not None else y for x, y in zip((market.high, market.low), both, strict=True))
    return {"high": high[after], "low": low[after]}


def _impact(market: MarketTensors, rows: Tensor, split: Tensor | None, coefficient: float) -> Tensor | None:
    """Fraction of notional per root of a share: the square-root law with daily volatility and volume up to bar t."""
    if market.daily_volume is None:
        return None
    volume = market.daily_volume[rows] if split is None else market.daily_volume[rows] * split
    return coefficient * daily_volatility(market)[rows] / volume.clamp_min(MIN_VOLUME).sqrt()


def daily_volatility(market: MarketTensors) -> Tensor:
    """Daily volatility ``[T, A]``; volatility per bar if the market has no sessions."""
    return market.volatility if market.daily_volatility is None else market.daily_volatility


def _max_shares(market: MarketTensors, after: Tensor, participation: float | None) -> Tensor | None:
    if participation is None or market.volume is None:
        return None
    return participation * market.volume[after]


def _clock_facts(
    market: MarketTensors, rows: Tensor, after: Tensor, parameters: TradingParameters
) -> dict[str, Tensor | None]:
    """Elapsed time and session boundaries, if a cost or a rule reads them."""
    carry, masks = parameters.carry, parameters.masks
    facts: dict[str, Tensor | None] = {}
    if market.elapsed is not None and (carry.borrow_rate or carry.financing_rate or carry.interest_rate):
        facts["years"] = market.elapsed[after, None] / DAYS_PER_YEAR
    if market.session is None:
        return facts
    if masks.daily_loss is not None or masks.trades_per_day is not None or masks.pattern_day_trader:
        facts["session_starts"] = (market.session[after] != market.session[rows])[..., None]
    if parameters.orders.flat_at_close or not masks.overnight:
        ends = session_ends(market)
        filled = (after + parameters.orders.latency_bars).clamp_max(market.bars - 1)
        facts["session_ends"] = ends[after, None] if parameters.orders.flat_at_close else None
        facts["must_leave"] = ends[filled, None] if not masks.overnight else None
    if market.minutes_since_open is not None and market.minutes_to_close is not None and parameters.calendar:
        since, until = market.minutes_since_open[rows, None], market.minutes_to_close[rows, None]
        if masks.first_minutes is not None or masks.last_minutes is not None:
            quiet = (since < (masks.first_minutes or 0.0)) | (until < (masks.last_minutes or 0.0))
            facts["session_cap"] = torch.where(quiet, 0.0, torch.inf).to(market.close.dtype)
    return facts


def session_ends(market: MarketTensors) -> Tensor:
    """Mask of the last bars of sessions ``[T]`` (bool), from timestamps and calendar alone."""
    if market.session is None:
        raise ValueError(
            "`session` of the market must hold each bar's session, was None; build the market with `market_tensors`."
        )
    changes = market.session[1:] != market.session[:-1]
    ends = torch.cat([changes, changes.new_zeros(1)])
    return ends if market.minutes_to_close is None else ends | (market.minutes_to_close <= 0.0)


def _risk_caps(market: MarketTensors, rows: Tensor, parameters: TradingParameters) -> dict[str, Tensor | None]:
    masks, caps = parameters.masks, dict[str, Tensor | None]()
    needed = (masks.position_var, parameters.var_limit, masks.target_volatility)
    if any(value is not None for value in needed):
        volatility = daily_volatility(market)[rows].clamp_min(MIN_VOLATILITY)
        loss = NormalDist().inv_cdf(masks.var_confidence) * volatility
        caps["volatility"] = loss if parameters.var_limit is not None else None
        caps["var_cap"] = masks.position_var / loss if masks.position_var is not None else None
        caps["volatility_cap"] = masks.target_volatility / volatility if masks.target_volatility is not None else None
    if masks.kelly_fraction is not None and market.returns is not None:
        first = max(0, int(rows.min()) - masks.kelly_bars + 1)  # earlier returns do not matter
        returns = market.returns[first : int(rows.max()) + 1]
        caps["kelly_cap"] = kelly_cap(returns, masks.kelly_fraction, masks.kelly_bars)[rows - first]
    if masks.liquidity is not None and market.daily_volume is not None:
        caps["liquidity"] = masks.liquidity * market.daily_volume[rows] * market.close[rows]
    return caps


def kelly_cap(returns: Tensor, fraction: float, bars: int) -> Tensor:
    """Cap of the Kelly criterion ``[T, A]``, fraction of equity: fraction x |mean| / variance of the last returns.

    Kelly, A New Interpretation of Information Rate (Bell System Technical Journal, 1956), for a continuous return
    (Thorp, The Kelly Criterion in Blackjack, Sports Betting, and the Stock Market, 2006, section 7).

    Args:
        returns: ``[T, A]`` log returns, 0 where an asset has no bar.
        fraction: Fraction of the growth-optimal exposure.
        bars: Number of returns; fewer in the first rows.
    """
    moments = torch.stack([returns, returns**2]).double().cumsum(1)  # [2, T, A]
    before = torch.cat([torch.zeros_like(moments[:, :bars]), moments[:, :-bars]], dim=1)[:, : returns.shape[0]]
    count = torch.arange(1, returns.shape[0] + 1, device=returns.device).clamp_max(bars)[:, None]
    mean, square = (moments - before) / count
    variance = (square - mean**2).clamp_min(MIN_VOLATILITY**2)
    cap: Tensor = fraction * mean.abs() / variance
    return cap.to(returns.dtype)


def _regime_cap(posterior: Tensor, parameters: TradingParameters, assets: int) -> Tensor | None:
    """Exposure allowed by the regimes ``[S, ..., 1]``, weighted by their filtered probabilities."""
    exposures, crisis = parameters.masks.regime_exposure, parameters.masks.crisis_probability
    states = posterior.shape[-1]
    if states == 1 or (exposures is None and crisis is None):
        return None
    cap = posterior.new_full((*posterior.shape[:-1], 1), torch.inf)
    if exposures is not None:
        if len(exposures) < states:
            raise ValueError(
                f"`trading.masks.regime_exposure` must have an entry for each of the {states} regimes, had "
                f"{len(exposures)}; add entries, or lower `regimes.states`."
            )
        allowed = torch.tensor(exposures[-states:], device=posterior.device, dtype=posterior.dtype)
        cap = (posterior @ allowed)[..., None] * allocation(parameters, assets)
    return cap if crisis is None else torch.where(posterior[..., -1:] > crisis, 0.0, cap)
