"""Bars and features as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.config.symbols import unknown_symbols
from sentio_kedro.market.ingestion.adjustment import adjustment_factors
from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars, Mask, hold
from sentio_kedro.market.ingestion.panels import panel_clock
from sentio_kedro.market.ingestion.sessions import Clock, Integers, SymbolClock
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.large_arrays import by_assets, large_array
from sentio_kedro.market.risk import RiskFacts, risk_facts
from sentio_kedro.market.trailing import estimated_spread

LONGEST_HALT_SESSIONS = 20  # of the calendar, that an asset may be missing at the end before it counts as delisted
ACTS = ("dividend", "split", "funding")  # columns that are null if they are neutral everywhere
LEAVING = ("open", "high", "low", "close", "volume", "dividend", "split", "spread")  # columns of bars of leavers
EVERY = "*"  # in place of a symbol: all of them


class MarketTensors(NamedTuple):
    """The market bar by bar; nothing in it depends on an account.

    Build it by keyword. Only the first six fields are required.

    Attributes:
        features: ``[T, A, F]`` causal features; 0 where the warm-up has not ended.
        open: ``[T, A]`` opening prices as traded; the last close where the asset has no bar.
        close: ``[T, A]`` closing prices as traded; the last close where the asset has no bar.
        tradable: ``[T, A]`` whether the asset has a bar and all its features.
        volatility: ``[T, A]`` ``daily_volatility`` over the root of the bars per session.
        posterior: ``[T, K]`` forward-filtered regime probabilities, as of the close.
        high: ``[T, A]`` highest prices; the last close where the asset has no bar; null: the higher of open and close.
        low: ``[T, A]`` lowest prices; the last close where the asset has no bar; null: the lower of open and close.
        volume: ``[T, A]`` traded shares or coins, 0 where the asset has no bar; null: unlimited.
        present: ``[T, A]`` whether the asset has a bar; null: ``tradable``.
        returns: ``[T, A]`` log total return of the bar, free of splits and dividends; 0 where the asset has no bar.
        daily_volatility: ``[T, A]`` trailing standard deviation of the log return of a session, as of the close.
        daily_volume: ``[T, A]`` trailing mean volume per session in shares of that row, above 0, as of the close.
        bar_volume: ``[T, A]`` expected volume of a bar, ``daily_volume`` over the bars per session.
        tail: ``[T]`` trailing quantile at ``masks.var_confidence`` of the absolute return of a session, in daily
            volatilities; at least that of the normal law; ``[T, A]`` where symbols have calendars of their own.
        correlation: ``[T]`` trailing average pairwise correlation of the assets, in [0, 1]; 0 with one asset.
        elapsed: ``[T]`` days since the previous bar, 0 for the first; null: 0.
        session: ``[T]`` int64, number of the session that the bar belongs to, never decreasing; null: one session.
        minutes_since_open: ``[T]`` from the session's open to the end of the bar; infinite if there are no sessions.
        minutes_to_close: ``[T]`` from the end of the bar to the session's close; infinite if there are no sessions.
        spread: ``[T, A]`` full quoted spread, fraction of the mid price, as of the close; null: constant.
        dividend: ``[T, A]`` cash per share of that row, for shares held since the bar before; null: none.
        split: ``[T, A]`` new shares per old share, applied before the bar opens (and before its dividend); null: none.
        funding: ``[T, A]`` funding rate of the bar, fraction of notional, paid by longs to shorts; null: none.
        delisted: ``[T, A]`` the first row after an asset's last bar; null: no asset ends before the bars do.
        delisting_return: ``[T, A]`` return of what is left there, NaN: ``trading.delisting_return``; null: NaN.
        leaving: ``[T, A, 8]`` bars of assets that have left a dated universe, by ``LEAVING``, in which positions are
            only reduced; NaN elsewhere. All other columns are of members. Null: no asset leaves.
        shortable: ``[A]`` whether the asset may be sold short; null: all may.
        units: ``[T, A]`` position of level 1 in units of the largest one that caps of size leave, signed; null: the
            allocation.
    """

    features: Tensor
    open: Tensor
    close: Tensor
    tradable: Tensor
    volatility: Tensor
    posterior: Tensor
    high: Tensor | None = None
    low: Tensor | None = None
    volume: Tensor | None = None
    present: Tensor | None = None
    returns: Tensor | None = None
    daily_volatility: Tensor | None = None
    daily_volume: Tensor | None = None
    bar_volume: Tensor | None = None
    tail: Tensor | None = None
    correlation: Tensor | None = None
    elapsed: Tensor | None = None
    session: Tensor | None = None
    minutes_since_open: Tensor | None = None
    minutes_to_close: Tensor | None = None
    spread: Tensor | None = None
    dividend: Tensor | None = None
    split: Tensor | None = None
    funding: Tensor | None = None
    delisted: Tensor | None = None
    delisting_return: Tensor | None = None
    leaving: Tensor | None = None
    shortable: Tensor | None = None
    units: Tensor | None = None

    @property
    def assets(self) -> int:
        """Number of assets A."""
        return int(self.close.shape[1])

    @property
    def bars(self) -> int:
        """Number of bars T."""
        return int(self.close.shape[0])

    def to(self, device: torch.device, dtype: torch.dtype) -> MarketTensors:
        """Move to ``device``; floating tensors become ``dtype``, null stays null."""
        return MarketTensors._make(
            None if x is None else x.to(device, dtype if x.is_floating_point() else x.dtype) for x in self
        )


def delisted_rows(bars: AlignedBars, session: Integers, own: Sequence[SymbolClock] = ()) -> Mask | None:
    """Return the first row after each asset's last bar ``[T, A]``; null if all assets last as long as the grid.

    An asset that never has a bar does not end, nor does one that is missing for at most ``LONGEST_HALT_SESSIONS``
    sessions where the bars end: it may come back. One that left a dated universe has ended when it is settled.

    Args:
        bars: Aligned bars.
        session: ``[T]`` number of each row's session, one more for each session of the calendar.
        own: Sessions of the symbols, if they have calendars of their own.
    """
    present = bars.present
    ends = len(present) - np.argmax(present[::-1], axis=0)  # [A] row after the last bar, T without one
    missed = session[-1] - session[ends - 1]  # [A] sessions since the last bar
    for part in own:
        last = np.searchsorted(part.rows, ends[part.assets] - 1)
        numbers = np.append(part.clock.session, 0)  # of assets without a bar, which do not end
        missed[part.assets] = part.behind + numbers[len(part.rows) - 1] - numbers[last]
    over = present.any(axis=0) & (missed > LONGEST_HALT_SESSIONS)
    rows = np.zeros(present.shape, dtype=bool)
    if bars.leavers is not None:
        rows |= bars.leavers.settled
        over &= ~bars.outside[-1]
    assets = np.flatnonzero(over)
    if not assets.size and not rows.any():
        return None
    rows[ends[assets], assets] = True
    return rows


def closed_on_leaving(market: MarketTensors, outside: Mask, paid: Floats) -> MarketTensors:
    """Close positions as soon as an asset has left a dated universe, at its last price as a member.

    Training so reads no price of an asset that is no member.

    Args:
        market: The market of T rows.
        outside: ``[T, A]`` whether an asset has left, or has not begun.
        paid: ``[T, A]`` ``Leavers.paid``.
    """
    ended, paid_out = torch.from_numpy(outside), torch.from_numpy(paid)
    if market.delisted is not None:
        paid_out = torch.where(market.delisted & ~ended, torch.nan, paid_out)
        ended = ended | market.delisted
    return market._replace(leaving=None, delisted=ended, delisting_return=paid_out)


def market_tensors(
    bars: AlignedBars,
    features: Floats,
    posterior: Floats,
    trading: TradingParameters | None = None,
    clock: Clock | None = None,
    risk: RiskFacts | None = None,
) -> MarketTensors:
    """Assemble the tensors of a market in float64 on the CPU, a few assets at a time; large ones lie in files.

    Args:
        bars: Aligned bars as traded, T x A.
        features: ``[T, A, F]``, NaN in warm-up.
        posterior: ``[T, K]`` regime probabilities.
        trading: Memory, source of the spread, assets that may be sold short, and calendar; null takes the defaults.
        clock: Sessions of the rows; null reads them from the bars, ``trading.calendar`` and ``trading.symbols``.
        risk: Trailing volatility, volume, tail and correlation of the rows; null computes them.

    Returns:
        The market. An asset that has not begun is priced 1 and cannot be traded.

    Raises:
        ValueError: If ``trading`` asks for a column that the bars lack, names no symbol or no calendar, or a dividend
            is not below the price that it is paid on.
    """
    trading = TradingParameters() if trading is None else trading
    clock = panel_clock(bars, trading) if clock is None else clock
    factors = adjustment_factors(bars)
    filled, complete = _filled(features)

    def of_assets(part: slice) -> dict[str, Floats | Mask]:
        own = bars.assets(part)
        adjusted_bars = own if factors is None else factors.assets(part).applied(own)
        return _asset_columns(own, adjusted_bars, complete[:, part], trading)

    columns = dict(by_assets(of_assets, *bars.close.shape))
    total = columns.pop("total")
    risk = risk_facts(bars, total, factors, clock, trading) if risk is None else risk
    neutral = [name for name in ACTS if name in columns and (columns[name] == NEUTRAL[name]).all()]
    delisted, leavers = delisted_rows(bars, clock.session, clock.own), bars.leavers
    return MarketTensors(
        features=torch.from_numpy(filled),
        posterior=torch.from_numpy(np.ascontiguousarray(posterior)),
        **{name: torch.from_numpy(values) for name, values in columns.items() if name not in neutral},
        **{name: torch.from_numpy(values) for name, values in risk._asdict().items()},
        elapsed=torch.from_numpy(clock.elapsed),
        session=torch.from_numpy(clock.session),
        minutes_since_open=torch.from_numpy(clock.minutes_since_open),
        minutes_to_close=torch.from_numpy(clock.minutes_to_close),
        delisted=None if delisted is None else torch.from_numpy(delisted),
        delisting_return=None if leavers is None else torch.from_numpy(leavers.delisting_return),
        leaving=None if leavers is None else torch.from_numpy(_leaving(leavers.bars)),
        shortable=torch.from_numpy(_shortable(bars.symbols, trading)),
    )


def _leaving(bars: AlignedBars) -> Floats:
    """Columns ``LEAVING`` of bars ``[T, A, 8]``; neutral where the bars lack one."""
    given, missing = bars.columns(), np.where(bars.present, 1.0, np.nan)
    columns = [given[name] if name in given else missing * NEUTRAL[name] for name in LEAVING]
    return np.stack(columns, axis=-1)


def _filled(features: Floats) -> tuple[Floats, Mask]:
    """Features ``[T, A, F]`` with 0 in rows that lack one, and whether a row has them all ``[T, A]``."""
    rows, assets, columns = features.shape
    filled = large_array((assets, rows, columns), features.dtype).transpose(1, 0, 2)
    complete = np.zeros((rows, assets), dtype=bool)
    for asset in range(assets):
        complete[:, asset] = np.isfinite(features[:, asset]).all(-1)
        filled[:, asset] = features[:, asset]
        filled[~complete[:, asset], asset] = 0.0
    return filled, complete


def _asset_columns(
    bars: AlignedBars, adjusted_bars: AlignedBars, complete: Mask, trading: TradingParameters
) -> dict[str, Floats | Mask]:
    """Columns ``[T, A]`` that each depend on one asset alone, those of ``MarketTensors`` and ``total``.

    ``total`` are prices free of splits and dividends, NaN before an asset's first bar.
    """
    present, held = bars.present, bars.held_close()
    total = held if adjusted_bars is bars else adjusted_bars.held_close()
    close = np.where(np.isnan(held), 1.0, held)
    spread = quoted_spread(bars, adjusted_bars, trading)
    acts = {name: column for name, column in bars.columns().items() if name in ACTS}
    return {
        "total": total,
        "open": np.where(present, bars.open, np.concatenate([close[:1], close[:-1]])),
        "close": close,
        "tradable": present & complete,
        "high": np.where(present, bars.high, close),
        "low": np.where(present, bars.low, close),
        "volume": np.where(present, bars.volume, 0.0),
        "present": present,
        "returns": _log_returns(total),
        **({} if spread is None else {"spread": spread}),
        **{name: np.where(np.isfinite(column), column, NEUTRAL[name]) for name, column in acts.items()},
    }


def _log_returns(held: Floats) -> Floats:
    returns = np.zeros(held.shape)
    returns[1:] = np.nan_to_num(np.diff(np.log(held), axis=0), nan=0.0)  # NaN up to an asset's first bar
    return returns


def quoted_spread(bars: AlignedBars, adjusted_bars: AlignedBars, trading: TradingParameters) -> Floats | None:
    """Full quoted spread ``[T, A]``, fraction of the mid price, as ``costs.half_spread`` says; null: constant.

    Raises:
        ValueError: If it is to come from the bars, which have none.
    """
    costs = trading.costs
    if costs.half_spread == "constant":
        return None
    if costs.half_spread == "estimated":
        return estimated_spread(adjusted_bars.high, adjusted_bars.low, adjusted_bars.close, costs.spread_bars)
    if bars.spread is None:
        raise ValueError(
            "`trading.costs.half_spread` is `bars`, but the bars have no column `spread`; add the column (full spread, "
            "fraction of the mid price), or set `estimated` or `constant`."
        )
    return np.nan_to_num(hold(bars.spread), nan=0.0)


def _shortable(symbols: Sequence[str], trading: TradingParameters) -> Mask:
    no_short = trading.masks.no_short
    unknown = unknown_symbols(no_short, [*symbols, EVERY])
    if unknown:
        raise ValueError(
            f"`trading.masks.no_short` must hold symbols of the bars, {list(symbols)}, or {EVERY!r} for all; had "
            f"{unknown}; correct or remove them."
        )
    general = {symbol: EVERY not in no_short and symbol not in no_short for symbol in symbols}
    own = {symbol: rules.shortable for symbol, rules in trading.symbols.items() if rules.shortable is not None}
    return np.array([own.get(symbol, general[symbol]) for symbol in symbols], dtype=bool)
