"""Stationary block bootstrap of the headline metrics.

Bars are not independent, so whole blocks of consecutive bars are drawn (Politis and Romano 1994, The Stationary
Bootstrap, Journal of the American Statistical Association 89). All accounts share the rows of a sample, so that
what the market did to both cancels in the difference between two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.performance import STILL

Floats = NDArray[np.float64]
CHUNK_VALUES = 1_000_000  # rows drawn at once, 8 MB
MIN_BLOCK_BARS = 16  # fewer have no correlogram
RUIN = 1e-15  # equity of an account that lost everything, so that its logarithm is finite


class Interval(NamedTuple):
    """A percentile interval.

    Attributes:
        low: Lower end.
        high: Upper end.
    """

    low: float
    high: float


def automatic_block(returns: Floats) -> float:
    """Mean block length of the stationary bootstrap with the least error of the mean's variance, at least 1.

    Politis and White 2004, Automatic Block-Length Selection for the Dependent Bootstrap, Econometric Reviews 23,
    corrected by Patton, Politis and White 2009, Econometric Reviews 28, as the library ``arch`` computes it.

    Args:
        returns: Returns per bar, [T]; 1 if they do not vary or are fewer than ``MIN_BLOCK_BARS``.
    """
    if len(returns) < MIN_BLOCK_BARS or not np.ptp(returns) > 0.0:
        return 1.0
    from arch.bootstrap import optimal_block_length  # noqa: PLC0415 - takes a second: statsmodels, matplotlib

    return max(1.0, float(optimal_block_length(returns)["stationary"].iloc[0]))


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
    _check_sizes(bars, samples, mean_block)
    draws, here = rng.random((samples, bars)), np.arange(bars)
    starts = draws * mean_block < 1.0
    starts[:, 0] = True  # a draw below 1 / mean_block starts a block and says where, uniformly; the first one always
    share = np.where(here > 0, draws * mean_block, draws)
    since = np.maximum.accumulate(np.where(starts, here, 0), axis=1)
    first = np.take_along_axis((share * bars).astype(np.int64), since, axis=1)
    return (first + here - since) % bars


def _check_sizes(bars: int, samples: int, mean_block: float) -> None:
    problems = [
        f"`{name}` must be at least 1, was {value}"
        for name, value in (("bars", bars), ("samples", samples), ("mean_block", mean_block))
        if not value >= 1
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")


@compiled
def _walk(
    draws: Floats, mean_block: float, logs: Floats, counts: Floats, depths: Floats, rows: NDArray[np.int64]
) -> None:
    """Draw resamples as ``stationary_bootstrap_indices`` does, count the draws of each row and measure drawdowns.

    Args:
        draws: Uniform draws, [samples, T].
        mean_block: Mean block length.
        logs: Logarithmic returns, an account's side by side, [N, T].
        counts: Draws of each row, zero at first, [samples, T].
        depths: Largest fall of the logarithm of the equity from its peak, [samples, N].
        rows: Scratch, [T].
    """
    bars = draws.shape[1]
    for sample in range(len(draws)):
        row = int(draws[sample, 0] * bars)
        for t in range(bars):
            if t > 0:
                share = draws[sample, t] * mean_block
                row = int(share * bars) if share < 1.0 else row + 1
            if row == bars:
                row = 0
            rows[t] = row
            counts[sample, row] += 1.0
        for account in range(len(logs)):
            equity, peak, depth = 0.0, 0.0, 0.0
            for t in range(bars):
                equity += logs[account, rows[t]]
                peak = max(peak, equity)
                depth = max(depth, peak - equity)
            depths[sample, account] = depth


def headline_samples(
    returns: Floats, periods_per_year: float, samples: int, mean_block: float, rng: np.random.Generator
) -> dict[str, Floats]:
    """Headline metrics of resampled paths, the same rows for all accounts of a sample.

    The fast twin of ``trading.performance`` (a test compares both). All but the drawdown follow from sums over a path,
    and a sum over a resample is the draw count of each row times its value: one matrix product for all accounts.

    Args:
        returns: Simple returns per bar, [T, N]; T bars, at least 2, N accounts.
        periods_per_year: Bars a year.
        samples: Number of resamples.
        mean_block: Mean block length in bars.
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
    logs = np.log1p(np.maximum(returns, RUIN - 1.0))
    by_row = np.concatenate(  # [T, 4 N]
        [returns, (returns - centre) ** 2, np.minimum(returns, 0.0) ** 2, logs], axis=1
    )
    parts = []
    for counts, drawdowns in _resamples(logs, samples, mean_block, rng):
        means = np.split(counts @ by_row / bars, 4, axis=1)  # [chunk, N] each
        parts.append(_metrics(means, centre, bars, periods_per_year) | {"max_drawdown": drawdowns})
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


def _resamples(
    logs: Floats, samples: int, mean_block: float, rng: np.random.Generator
) -> Iterator[tuple[Floats, Floats]]:
    """Yield the draws of each row, [chunk, T], and the drawdowns, [chunk, N], for logarithmic returns [T, N]."""
    bars, accounts = logs.shape
    _check_sizes(bars, samples, mean_block)
    by_account, rows = np.ascontiguousarray(logs.T), np.empty(bars, dtype=np.int64)
    chunk = max(1, CHUNK_VALUES // bars)
    for first in range(0, samples, chunk):
        count = min(chunk, samples - first)
        counts, depths = np.zeros((count, bars)), np.zeros((count, accounts))
        _walk(rng.random((count, bars)), mean_block, by_account, counts, depths, rows)
        yield counts, -np.expm1(-depths)


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


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator``, 0 where both are zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where((numerator == 0.0) & (denominator == 0.0), 0.0, numerator / denominator)
    return ratio


def round_trip_samples(sums: Floats, samples: int, mean_block: float, rng: np.random.Generator) -> dict[str, Floats]:
    """Win rate and expectancy of the round trips entered on resampled rows, the same rows for all accounts.

    Round trips of one time share the market, so whole blocks of rows are drawn with all that were entered on them: the
    rows of ``headline_samples`` for a generator of the same seed.

    Args:
        sums: Round trips entered on each row, those of them that won, and the sum of their net results / equity at
            entry, [3, T, N].
        samples: Number of resamples.
        mean_block: Mean block length in bars.
        rng: Random generator.

    Returns:
        ``win_rate`` and ``expectancy``, [samples, N] each; NaN where a resample drew no round trip.
    """
    by_row = np.concatenate(list(sums), axis=1)  # [T, 3 N]
    resamples = _resamples(np.empty((len(by_row), 0)), samples, mean_block, rng)
    parts = [counts @ by_row for counts, _ in resamples]
    count, won, results = np.split(np.concatenate(parts), 3, axis=1)
    round_trips = np.where(count > 0.0, count, np.nan)
    return {"win_rate": won / round_trips, "expectancy": results / round_trips}
