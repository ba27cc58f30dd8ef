"""Facts of the market for the step: prices, costs and the caps that do not depend on accounts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import hold
from sentio_kedro.market.tensors import LEAVING, MarketTensors
from sentio_kedro.trading.accounts import allocation, half_spread_floor
from sentio_kedro.trading.records import CLOCK, FACTS, Floats, Integers, Market, Mask

DAYS_PER_YEAR = 365.0  # rates are fractions a year of 365 days
MIN_VOLATILITY = 1e-12
MIN_VOLUME = 1e-9
FAR = 2**62  # bars to the session's end where there is none


class Exits(NamedTuple):
    """Bars of assets that have left the universe.

    Attributes:
        columns: Columns ``[T, A]`` by name, NaN where there is none.
        present: ``[T, A]`` whether there is one.
        price: ``[T, A]`` their last close.
        last: ``[T, A]`` whether the asset's last bar was one of them.
    """

    columns: dict[str, Floats]
    present: Mask
    price: Floats
    last: Mask


class Outline(NamedTuple):
    """What facts of any rows read of the whole market.

    Attributes:
        begins: ``[A]`` row of the first bar, T without one.
        to_session_end: ``[T]`` bars to the last row of the session; null without sessions.
        exits: Bars of assets that have left the universe; null without one.
    """

    begins: Integers
    to_session_end: Integers | None
    exits: Exits | None = None


def market_outline(market: MarketTensors) -> Outline:
    """Read the whole market once, for many calls of ``market_facts``."""
    present = _present(market)
    begins = np.where(present.any(axis=0), present.argmax(axis=0), market.bars)
    exits = None if market.leaving is None else _exits(_array(market.leaving), present)
    if market.session is None:
        return Outline(begins, None, exits)
    return Outline(begins, bars_to_session_end(_array(market.session), market.minutes_to_close), exits)


def _exits(leaving: Floats, present: Mask) -> Exits:
    columns = dict(zip(LEAVING, np.moveaxis(leaving, -1, 0), strict=True))
    left = np.isfinite(columns["close"])
    last = hold(np.where(present, 0.0, np.where(left, 1.0, np.nan))) > 0.0
    return Exits(columns, left, hold(columns["close"]), last)


def market_facts(
    market: MarketTensors,
    start: int,
    stop: int,
    parameters: TradingParameters,
    posteriors: Sequence[Tensor] | None = None,
    outline: Outline | None = None,
) -> Market:
    """Compute the facts of the steps from decision rows ``[start, stop)``; row 0 of the result is ``start``.

    Args:
        market: The market, on a CPU.
        start: First decision row.
        stop: Row after the last one. No order is filled after the last row of the market.
        parameters: Costs and limits that are on.
        posteriors: Filtered regime probabilities ``[T, K]`` of each regime model; None takes the market's.
        outline: ``market_outline`` of the market; None reads it, in a time that grows with all of its rows.

    Raises:
        ValueError: If ``masks.regime_exposure`` has fewer entries than there are regimes.
    """
    outline = market_outline(market) if outline is None else outline
    rows = np.arange(start, stop)
    after = np.minimum(rows + 1, market.bars - 1)
    facts = np.zeros((stop - start, market.assets), FACTS)  # an attribute of records costs ten times an item
    facts["close"], facts["next_close"] = _array(market.close)[rows], _array(market.close)[after]
    facts["open"] = _array(market.open)[after]
    facts["high"], facts["low"] = (
        np.maximum(facts["open"], facts["next_close"]),
        np.minimum(facts["open"], facts["next_close"]),
    )
    if market.high is not None and market.low is not None:
        facts["high"], facts["low"] = _array(market.high)[after], _array(market.low)[after]
    facts["tradable"] = _array(market.tradable)[rows]
    facts["unlisted"] = rows[:, None] < outline.begins
    facts["fillable"] = _present(market)[after] & (rows < market.bars - 1)[:, None]
    facts["split"] = 1.0 if market.split is None else _array(market.split)[after]
    facts["dividend"] = 0.0 if market.dividend is None else _array(market.dividend)[after]
    facts["delisted"] = False if market.delisted is None else _array(market.delisted)[after]
    if market.delisting_return is not None:
        returned = _array(market.delisting_return)[after]
        facts["paid"], facts["delisting_return"] = np.isfinite(returned), np.nan_to_num(returned)
    facts["shortable"] = True if market.shortable is None else _array(market.shortable)
    if parameters.carry.funding and market.funding is not None:
        facts["funding"] = _array(market.funding)[after]
    _set_costs(facts, market, rows, after, parameters)
    _set_caps(facts, market, rows, parameters)
    if outline.exits is not None:
        _set_leaving(facts, outline.exits, rows, after, parameters)
    regimes = [market.posterior] if posteriors is None else posteriors
    caps = [_regime_caps(_array(posterior)[rows], parameters) for posterior in regimes]
    clock = _clock(market, rows, after, parameters, outline)
    return Market(facts.view(np.recarray), clock.view(np.recarray), np.stack(caps, axis=1))


def _present(market: MarketTensors) -> Mask:
    return _array(market.tradable if market.present is None else market.present)


def _array(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().numpy())


def _set_costs(
    facts: np.ndarray, market: MarketTensors, rows: Integers, after: Integers, parameters: TradingParameters
) -> None:
    """Half spread of the fill bar; impact by the square-root law with daily volatility and volume up to bar t."""
    costs, orders = parameters.costs, parameters.orders
    minimum = half_spread_floor(parameters, facts["open"])
    facts["half_spread"] = minimum
    if costs.half_spread != "constant" and market.spread is not None:
        facts["half_spread"] = np.maximum(0.5 * _array(market.spread)[after], minimum)
    if costs.impact and market.daily_volume is not None:
        volume = np.maximum(_array(market.daily_volume)[rows] * facts["split"], MIN_VOLUME)
        facts["impact"] = costs.impact * daily_volatility(market)[rows] / np.sqrt(volume)
    facts["max_shares"] = np.inf
    if orders.participation is not None and market.volume is not None:
        facts["max_shares"] = orders.participation * _array(market.volume)[after]
        if orders.participation_volume == "expected" and market.bar_volume is not None:
            facts["max_shares"] = orders.participation * _array(market.bar_volume)[rows] * facts["split"]


def _set_leaving(
    facts: np.ndarray, exits: Exits, rows: Integers, after: Integers, parameters: TradingParameters
) -> None:
    """Set what reducing positions in assets that have left the universe takes: prices, volumes, splits, dividends."""
    columns, own = exits.columns, exits.present[after] & (after > rows)[:, None]
    facts["leaving"], facts["reducing"] = exits.present[rows], own
    facts["fillable"] |= own
    facts["close"] = np.where(exits.last[rows], exits.price[rows], facts["close"])
    for name in ("open", "high", "low", "next_close"):
        facts[name] = np.where(exits.last[after], exits.price[after], facts[name])
    for name in ("open", "high", "low", "split", "dividend"):
        facts[name] = np.where(own, columns[name][after], facts[name])
    if parameters.costs.half_spread == "bars":
        minimum = half_spread_floor(parameters, facts["open"])
        facts["half_spread"] = np.where(own, np.maximum(0.5 * columns["spread"][after], minimum), facts["half_spread"])
    orders = parameters.orders
    if orders.participation is not None and orders.participation_volume == "bar":
        facts["max_shares"] = np.where(own, orders.participation * columns["volume"][after], facts["max_shares"])


def daily_volatility(market: MarketTensors) -> Floats:
    """Daily volatility ``[T, A]``; volatility per bar if the market has no sessions."""
    return _array(market.volatility if market.daily_volatility is None else market.daily_volatility)


def _set_caps(facts: np.ndarray, market: MarketTensors, rows: Integers, parameters: TradingParameters) -> None:
    masks, share = parameters.masks, allocation(parameters, market.assets)
    volatility = np.maximum(daily_volatility(market)[rows], MIN_VOLATILITY)
    quantile = NormalDist().inv_cdf(masks.var_confidence)
    tail = quantile if market.tail is None else _array(market.tail)[rows].reshape(len(rows), -1)  # [S, 1] or [S, A]
    facts["value_at_risk"] = tail * volatility
    facts["var_cap"] = np.inf if masks.position_var is None else share * masks.position_var / facts["value_at_risk"]
    facts["volatility_cap"] = (
        np.inf if masks.target_volatility is None else share * masks.target_volatility / volatility
    )
    full = np.minimum(np.minimum(facts["var_cap"], facts["volatility_cap"]), share)
    facts["full"] = full
    facts["unit"] = share if market.units is None else _array(market.units)[rows] * full
    facts["reward_unit"] = _array(market.volatility)[rows] * np.where(share > 0.0, full, 1.0)
    facts["kelly_cap"], facts["liquidity"] = np.inf, np.inf
    if masks.kelly_fraction is not None and market.returns is not None:
        first = max(0, int(rows[0]) - masks.kelly_bars + 1)  # earlier returns do not matter
        returns = _array(market.returns)[first : rows[-1] + 1]
        facts["kelly_cap"] = kelly_cap(returns, masks.kelly_fraction, masks.kelly_bars)[rows - first]
    if masks.liquidity is not None and market.daily_volume is not None:
        facts["liquidity"] = masks.liquidity * _array(market.daily_volume)[rows] * facts["close"]


def kelly_cap(returns: Floats, fraction: float, bars: int) -> Floats:
    """Cap of the Kelly criterion ``[T, A]``, fraction of equity: fraction x |mean| / variance of the last returns.

    Kelly, A New Interpretation of Information Rate (Bell System Technical Journal, 1956), for a continuous return
    (Thorp, The Kelly Criterion in Blackjack, Sports Betting, and the Stock Market, 2006, section 7).

    Args:
        returns: ``[T, A]`` log returns, 0 where an asset has no bar.
        fraction: Fraction of the growth-optimal exposure.
        bars: Number of returns; fewer in the first rows.
    """
    moments = np.stack([returns, returns**2]).cumsum(axis=1)  # [2, T, A]
    before = np.zeros_like(moments)
    before[:, bars:] = moments[:, :-bars]
    count = np.minimum(np.arange(1, len(returns) + 1), bars)[:, None]
    mean, square = (moments - before) / count
    return np.asarray(fraction * np.abs(mean) / np.maximum(square - mean**2, MIN_VOLATILITY**2))


def _regime_caps(posterior: Floats, parameters: TradingParameters) -> Floats:
    """Caps by the regimes' filtered probabilities ``[S, 2]``, units of the allocation: of size, and of increases."""
    exposures, crisis = parameters.masks.regime_exposure, parameters.masks.crisis_probability
    rows, states = posterior.shape
    caps = np.full((rows, 2), np.inf)
    if states > 1 and exposures is not None:
        if len(exposures) < states:
            raise ValueError(
                f"`trading.masks.regime_exposure` must have an entry for each of the {states} regimes, had "
                f"{len(exposures)}; add entries, or lower `regimes.states`."
            )
        caps[:, 0] = posterior @ np.array(exposures[-states:])
    if states > 1 and crisis is not None:
        caps[:, 1] = np.where(posterior[:, -1] > crisis, 0.0, np.inf)
    return caps


def _clock(
    market: MarketTensors, rows: Integers, after: Integers, parameters: TradingParameters, outline: Outline
) -> np.ndarray:
    """Elapsed time, sessions and correlation."""
    masks, clock = parameters.masks, np.zeros(len(rows), CLOCK)
    if market.elapsed is not None:
        clock["years"] = _array(market.elapsed)[after] / DAYS_PER_YEAR
    if market.correlation is not None:
        clock["correlation"] = _array(market.correlation)[rows]
    clock["bars_to_session_end"] = FAR
    if market.session is None or outline.to_session_end is None:
        return clock
    session = _array(market.session)
    clock["session_starts"] = session[after] != session[rows]
    clock["bars_to_session_end"] = outline.to_session_end[after]
    if market.minutes_since_open is not None and market.minutes_to_close is not None and parameters.calendar:
        since, until = _array(market.minutes_since_open)[rows], _array(market.minutes_to_close)[rows]
        clock["quiet"] = (since < (masks.first_minutes or 0.0)) | (until < (masks.last_minutes or 0.0))
    return clock


def bars_to_session_end(session: Integers, minutes_to_close: Tensor | None) -> Integers:
    """Bars from each row to the last of its ``session`` ``[T]``, from timestamps and calendar alone.

    The last session of the bars is open unless the calendar says that it has ended.
    """
    ends = np.append(session[1:] != session[:-1], values=False)
    if minutes_to_close is not None:
        ends |= _array(minutes_to_close) <= 0.0
    rows = np.arange(len(ends))
    following = np.where(ends, rows, FAR)
    return np.asarray(np.minimum.accumulate(following[::-1])[::-1] - rows)
