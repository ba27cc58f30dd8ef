"""Moves of prices that are more often faults than news: splits that were not told, told twice, and lost points."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.checks.columns import PRICE_COLUMNS
from sentio_kedro.market.ingestion.checks.keys import Delivered, Order
from sentio_kedro.market.ingestion.checks.values import Values
from sentio_kedro.market.ingestion.problems import Problem, Severity, shown
from sentio_kedro.market.ingestion.timestamps import Floats

LARGE_MOVE, LARGE_DEVIATIONS = 0.7, 20.0  # log return, and robust standard deviations that it must exceed too
RATIOS = (1.5, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
RATIO_SLACK, RATIO_DEVIATIONS = 0.02, 8.0
SMALLEST_SPLIT = 0.18  # log of a split that a quiet market tells from none
UNMOVED = 0.25  # share of a split's log, up to which a price has not moved by it
POINT_SLACK = 0.08  # of a power of ten, in decimal logarithms
SAME_PRICE = 0.3  # log distance of a price that came back
MIN_RETURNS = 5  # fewer say nothing of deviations
NORMAL_QUARTILE = 0.6745  # of a standard normal's absolute value, the median
_SMALLEST_CANDIDATE = np.log(min(RATIOS)) - RATIO_SLACK

Integers = NDArray[np.int64]


class Breaks(NamedTuple):
    """Moves between two closes that may be splits.

    Attributes:
        places: Positions [k] of the bars that moved.
        ratios: Close over the one before [k], splits and dividends that were told taken out.
    """

    places: Integers
    ratios: Floats


def find_breaks(returns: Floats, bounds: Integers) -> Breaks:
    """Find moves that are large against all others of their symbol, or a small ratio of whole numbers.

    Args:
        returns: Log returns [m] of closes by symbol and time, NaN at each symbol's first bar.
        bounds: Where each symbol begins, and the end [A + 1].
    """
    size = np.abs(np.nan_to_num(returns))
    places = np.flatnonzero(size > _SMALLEST_CANDIDATE)
    if not places.size:
        return Breaks(places, np.zeros(0))
    deviations = _robust_deviations(size, bounds, places)
    whole = np.abs(np.exp(size[places])[:, None] / np.array(RATIOS) - 1.0).min(axis=1) <= RATIO_SLACK
    large = (size[places] > LARGE_MOVE) & (size[places] > LARGE_DEVIATIONS * deviations)
    found = large | (whole & (size[places] > RATIO_DEVIATIONS * deviations))
    return Breaks(places[found], np.exp(returns[places[found]]))


def _robust_deviations(size: Floats, bounds: Integers, places: Integers) -> Floats:
    """Return the robust deviation of the symbol of each place [k]; infinite where there are too few returns."""
    owners = np.searchsorted(bounds, places, side="right") - 1
    deviations = np.full(len(places), np.inf)
    for owner in np.unique(owners):
        own = size[bounds[owner] + 1 : bounds[owner + 1]]
        moved = own[own > 0.0]
        if len(own) >= MIN_RETURNS and moved.size:
            deviations[owners == owner] = np.median(moved) / NORMAL_QUARTILE
    return deviations


def adjusted_returns(close: Floats, dividend: Floats | None, split: Floats | None, bounds: Integers) -> Floats:
    """Return log returns [m] of closes by symbol and time, splits and dividends taken out; NaN at first bars."""
    before = np.concatenate([[np.nan], close[:-1]])
    before[bounds[:-1][np.diff(bounds) > 0]] = np.nan
    if split is not None:
        before = before / np.where((split > 0.0) & np.isfinite(split), split, 1.0)
    if dividend is not None:
        after = before - np.nan_to_num(dividend)
        before = np.where(after > 0.0, after, before)
    with np.errstate(invalid="ignore", divide="ignore"):
        returns: Floats = np.log(close / before)
    return returns


def move_problems(bars: Delivered, order: Order, values: Values) -> list[Problem]:
    """List breaks, splits by which no price moves, and prices off by a power of ten that come back with the next bar.

    Args:
        bars: The bars.
        order: Rows by symbol and time.
        values: Numbers of the bars by column, [n] each.
    """
    bounds, rows = order.bounds, order.rows
    named = {name: column[rows] for name, column in values.items() if name != "volume"}
    close, split = named["close"], named.get("split")
    returns = adjusted_returns(close, named.get("dividend"), split, bounds)
    lost, prints = _lost_points(named, returns, bounds)
    twice = _splits_told_twice(close, split, returns, bounds)
    breaks = find_breaks(returns, bounds)
    jumps = breaks.places[~np.isin(breaks.places, np.concatenate([lost, lost + 1, twice]))]

    def problem(
        rule: str, places: Integers, text: Callable[[int], str], severity: Severity = "refused"
    ) -> list[Problem]:
        place_of = dict(zip(rows[places].tolist(), places.tolist(), strict=True))
        return bars.problem_of_rows(rule, rows[places], lambda row: text(place_of[row]), severity)

    def moved(place: int) -> str:
        return f"close={shown(close[place])} after {shown(close[place - 1])}"

    def around(place: int) -> str:
        return _prices_around(named, bounds, place, int(rows[place]))

    return [
        *problem(
            "a price is off by a factor near 10, 100 or 1000 in one bar and comes back: correct the row (a lost "
            "decimal point?), or drop it",
            lost,
            around,
        ),
        *problem(
            "a split is told, but no price moves by it: are prices adjusted already? then leave `split` out (or is it "
            "inverted? it is new shares per old one)",
            twice,
            lambda place: f"split={shown(named['split'][place])}, {moved(place)}",
        ),
        *problem(
            "high or low is off by a factor near 10, 100 or 1000: a lost decimal point? ranges and stops read it",
            prints,
            around,
            "told",
        ),
        *problem(
            "a price jumps: a split? add `split`, or use adjusted prices; or a wrong price?",
            jumps,
            lambda place: f"{moved(place)}, {_ratio_text(float(np.exp(returns[place])))}",
            "told",
        ),
    ]


def _prices_around(named: dict[str, Floats], bounds: Integers, place: int, row: int) -> str:
    """Return the prices of a bar and the closes beside it."""
    owner = np.searchsorted(bounds, place, side="right") - 1
    near = [other for other in (place - 1, place + 1) if bounds[owner] <= other < bounds[owner + 1]]
    own = ", ".join(f"{name}={shown(named[name][place])}" for name in PRICE_COLUMNS)
    return f"row {row} {own}; the closes beside it are {' and '.join(shown(named['close'][other]) for other in near)}"


def _ratio_text(ratio: float) -> str:
    larger = max(ratio, 1.0 / ratio)
    near = [Fraction(whole) for whole in RATIOS if abs(larger / whole - 1.0) <= RATIO_SLACK]
    parts = [str(near[0].numerator), str(near[0].denominator)] if near else []
    return f"ratio {ratio:.4g}" + (f", near {':'.join(parts if ratio < 1.0 else parts[::-1])}" if near else "")


def _power_of_ten(logarithm: Floats) -> NDArray[np.bool_]:
    """Return where a natural logarithm is near that of 10, 100, 1000 and so on."""
    powers = np.abs(logarithm) / np.log(10.0)
    near: NDArray[np.bool_] = (np.round(powers) >= 1.0) & (np.abs(powers - np.round(powers)) <= POINT_SLACK)
    return near


def _lost_points(named: dict[str, Floats], returns: Floats, bounds: Integers) -> tuple[Integers, Integers]:
    """Return the positions of bars off by a power of ten: by open or all prices, and by high or low alone."""
    large = np.log(10.0) * (1.0 - POINT_SLACK)
    size = np.abs(np.nan_to_num(returns))
    following = np.append(np.nan_to_num(returns)[1:], 0.0)
    off = (size > large) & (np.abs(np.nan_to_num(returns) + following) < SAME_PRICE)
    off[off] = _power_of_ten(returns[off])
    close, factor = named["close"], np.exp(large)
    far = np.zeros(len(close), dtype=bool)
    for name in ("open", "high", "low"):
        far |= (named[name] > factor * close) | (close > factor * named[name])
    suspects = np.flatnonzero(far & ~off)
    if not suspects.size:
        return np.flatnonzero(off), suspects
    around = np.where(np.isin(suspects, bounds[:-1]), np.append(returns[1:], np.nan)[suspects], returns[suspects])
    suspects = suspects[~(np.abs(around) > SAME_PRICE)]  # the close is right
    wrong = {name: _power_of_ten(np.log(named[name] / close)[suspects]) for name in ("open", "high", "low")}
    off[suspects[wrong["open"]]] = True
    return np.flatnonzero(off), suspects[~wrong["open"] & (wrong["high"] | wrong["low"])]


def _splits_told_twice(close: Floats, split: Floats | None, returns: Floats, bounds: Integers) -> Integers:
    """Return the positions of splits by which no price moves, though the market is quiet enough to tell."""
    if split is None:
        return np.zeros(0, dtype=np.int64)
    told = np.isfinite(split) & (split > 0.0) & np.isfinite(returns)
    told[told] = np.abs(np.log(split[told])) > SMALLEST_SPLIT
    places = np.flatnonzero(told)
    if not places.size:
        return places
    moved = np.log(close[places] / close[places - 1])
    expected = -np.log(split[places])
    usual = RATIO_DEVIATIONS * _robust_deviations(np.abs(np.nan_to_num(returns)), bounds, places)
    unmoved = np.abs(moved) < np.minimum(UNMOVED * np.abs(expected), usual)
    strange = np.abs(returns[places]) > usual
    twice: Integers = places[unmoved & strange]
    return twice
