"""Stationary block bootstrap of the headline metrics.

Bars are not independent, so whole blocks of consecutive bars are drawn (Politis and Romano 1994, The Stationary
Bootstrap, Journal of the American Statistical Association 89). All accounts share the rows of a sample, so that the
market's luck cancels in the difference between two accounts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.trading.performance import STILL

Floats = NDArray[np.float64]
CHUNK_VALUES = 8_000_000  # rows drawn at once, 64 MB
RUIN = 1e-15  # equity of an account that lost everything, so that its logarithm is finite


class Interval(NamedTuple):
    """A percentile interval.

    Attributes:
        low: Lower end.
        high: Upper end.
    """

    low: float
    high: float


def default_block(bars: int) -> float:
    """Default mean block length: the square root of the number of bars."""
    return math.sqrt(bars)


def percentile_interval(samples: Floats, confidence: float) -> Interval:
    """Central interval of ``samples`` [samples] that holds the share ``confidence`` of them; NaN do not count.

    With infinite samples the ends are samples: there is no interpolation between a finite and an infinite one.
    """
    tail, samples = (1.0 - confidence) / 2.0, samples[~np.isnan(samples)]
    if not len(samples):
        return Interval(math.nan, math.nan)
    method: Literal["linear", "inverted_cdf"] = "linear" if np.isfinite(samples).all() else "inverted_cdf"
    low, high = np.quantile(samples, [tail, 1.0 - tail], method=method)
    return Interval(float(low), float(high))


def confidence_percent(confidence: float) -> str:
    """Format a confidence without rounding to whole percents, such as ``97.5%``."""
    return f"{100.0 * confidence:.6g}%"


def stationary_bootstrap_indices(
    bars: int, samples: int, mean_block: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw rows in blocks of geometric length, wrapping from the last bar to the first.

    Args:
        bars: Number of rows T to draw from, and of rows drawn.
        samples: Number of resamples.
        mean_block: Mean block length in bars, at least 1; 1 draws bars independently.
        rng: Random generator.

    Returns:
        Row numbers, [samples, T].

    Raises:
        ValueError: If a size is below 1.
    """
    problems = [
        f"`{name}` must be at least 1, was {value}"
        for name, value in (("bars", bars), ("samples", samples), ("mean_block", mean_block))
        if not value >= 1
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")
    lengths = _block_lengths(bars, samples, mean_block, rng)
    ends = np.cumsum(lengths, axis=1)
    starts = np.minimum(ends - lengths, bars)
    used = np.minimum(ends, bars) - starts  # the last block is cut, those after it are empty
    shifts = rng.integers(0, bars, lengths.shape) - starts
    rows: NDArray[np.int64] = np.repeat(shifts.ravel(), used.ravel()).reshape(samples, bars)
    rows += np.arange(bars)
    rows[rows >= bars] -= bars
    return rows


def _block_lengths(bars: int, samples: int, mean_block: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Geometric lengths that fill the bars of each sample, [samples, blocks]."""
    expected = bars / mean_block
    blocks = math.ceil(expected + 4.0 * math.sqrt(expected) + 4.0)  # nearly always enough
    parts: list[NDArray[np.int64]] = []
    while not parts or int(np.concatenate(parts, axis=1).sum(axis=1).min()) < bars:
        parts.append(np.minimum(rng.geometric(1.0 / mean_block, (samples, blocks)), bars))
    return np.concatenate(parts, axis=1)


def headline_samples(
    returns: Floats, periods_per_year: float, samples: int, mean_block: float | None, rng: np.random.Generator
) -> dict[str, Floats]:
    """Headline metrics of resampled paths, the same rows for all accounts of a sample.

    The fast twin of ``trading.performance`` (a test compares both). All but the drawdown follow from sums over a path,
    and a sum over a resample is the draw count of each row times its value: one matrix product for all accounts.

    Args:
        returns: Simple returns per bar, [T, N]; T bars, at least 2, N accounts.
        periods_per_year: Bars a year.
        samples: Number of resamples.
        mean_block: Mean block length in bars; None takes the square root of T.
        rng: Random generator.

    Returns:
        [samples, N] each: ``sharpe``, ``annual_return``, ``total_return``, ``annual_volatility``, ``max_drawdown``,
        ``sortino`` (annualised mean / deviation below zero) and ``calmar`` (return a year / maximum drawdown); infinite
        where only the divisor is zero.

    Raises:
        ValueError: If there are fewer than two bars.
    """
    bars = len(returns)
    if bars < 2:  # noqa: PLR2004 - a deviation needs two
        raise ValueError(f"`returns` must hold at least 2 bars, held {bars}; give more bars.")
    centre = returns.mean(axis=0)
    logs = np.ascontiguousarray(np.log1p(np.maximum(returns, RUIN - 1.0)))  # taking rows of columns copies them all
    by_row = np.concatenate(  # [T, 4 N]
        [returns, (returns - centre) ** 2, np.minimum(returns, 0.0) ** 2, logs], axis=1
    )
    parts = []
    for rows in _row_chunks(bars, samples, default_block(bars) if mean_block is None else mean_block, rng):
        means = np.split(_draw_counts(rows) @ by_row / bars, 4, axis=1)  # [chunk, N] each
        parts.append(_metrics(means, centre, bars, periods_per_year) | {"max_drawdown": _drawdowns(logs, rows)})
    metrics = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return metrics | {"calmar": _ratio(metrics["annual_return"], metrics["max_drawdown"])}


def on_paths(returns: Floats, paths: Sequence[NDArray[np.int64]]) -> Floats:
    """Make the P paths of every account columns, [E, N] to [T, P N], so that all share the rows of a sample."""
    return returns if len(paths) == 1 else np.concatenate([returns[places] for places in paths], axis=1)


def path_medians(samples: Floats, paths: int) -> Floats:
    """Median of each account over the paths of ``on_paths`` in every sample, [samples, P N] to [samples, N]."""
    if paths == 1:
        return samples
    medians: Floats = np.median(samples.reshape(len(samples), paths, -1), axis=1)
    return medians


def _row_chunks(bars: int, samples: int, block: float, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    chunk = max(1, CHUNK_VALUES // bars)
    for first in range(0, samples, chunk):
        yield stationary_bootstrap_indices(bars, min(chunk, samples - first), block, rng)


def _draw_counts(rows: NDArray[np.int64]) -> Floats:
    """Number of times that each sample drew each row, [samples, T]."""
    samples, bars = rows.shape
    places = rows + bars * np.arange(samples)[:, None]
    return np.bincount(places.ravel(), minlength=rows.size).reshape(samples, bars).astype(np.float64)


def _metrics(means: list[Floats], centre: Floats, bars: int, periods_per_year: float) -> dict[str, Floats]:
    """Metrics that follow from means over each resampled path, [samples, N] each."""
    mean, square, below, growth = means
    deviation = np.sqrt(np.maximum(square - (mean - centre) ** 2, 0.0) * bars / (bars - 1))
    varies = deviation > STILL * np.abs(mean)
    root = math.sqrt(periods_per_year)
    return {
        "sharpe": np.where(varies, mean / np.where(varies, deviation, 1.0) * root, 0.0),
        "annual_return": np.expm1(growth * periods_per_year),
        "total_return": np.expm1(growth * bars),
        "annual_volatility": deviation * root,
        "sortino": _ratio(mean, np.sqrt(below)) * root,
    }


def _drawdowns(logs: Floats, rows: NDArray[np.int64]) -> Floats:
    """Maximum drawdown of each resampled path, [samples, N]: bar by bar, so that all accounts stay in the cache."""
    shape = len(rows), logs.shape[1]
    equity, peak, depth, step = (np.zeros(shape) for _ in range(4))
    for row in np.ascontiguousarray(rows.T):
        np.take(logs, row, axis=0, out=step, mode="clip")
        equity += step
        np.maximum(peak, equity, out=peak)
        np.subtract(peak, equity, out=step)
        np.maximum(depth, step, out=depth)
    return -np.expm1(-depth)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator``, 0 where both are zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where((numerator == 0.0) & (denominator == 0.0), 0.0, numerator / denominator)
    return ratio


def round_trip_samples(
    sums: Floats, samples: int, mean_block: float | None, rng: np.random.Generator
) -> dict[str, Floats]:
    """Win rate and expectancy of the round trips entered on resampled rows, the same rows for all accounts.

    Round trips of one time share the market, so whole blocks of rows are drawn with all that were entered on them: the
    rows of ``headline_samples`` for a generator of the same seed.

    Args:
        sums: Round trips entered on each row, those of them that won, and the sum of their net results / equity at
            entry, [3, T, N].
        samples: Number of resamples.
        mean_block: Mean block length in bars; None takes the square root of T.
        rng: Random generator.

    Returns:
        ``win_rate`` and ``expectancy``, [samples, N] each; NaN where a resample drew no round trip.
    """
    bars = sums.shape[1]
    by_row, parts = np.concatenate(list(sums), axis=1), []  # [T, 3 N]
    for rows in _row_chunks(bars, samples, default_block(bars) if mean_block is None else mean_block, rng):
        parts.append(_draw_counts(rows) @ by_row)
    count, won, results = np.split(np.concatenate(parts), 3, axis=1)
    round_trips = np.where(count > 0.0, count, np.nan)
    return {"win_rate": won / round_trips, "expectancy": results / round_trips}
