"""Feature columns and look-backs in time: the same month at bars of a minute and of a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sentio_kedro.durations import DAY, count_bars, exact_bars

LADDER = ("1min", "5min", "15min", "1h", "4h", "1d", "1w", "1mo", "1q")
"""Durations of features, short to long."""

MEMORIES = (
    *("1min", "5min", "15min", "30min", "1h", "2h", "4h", "12h"),
    *("1d", "2d", "1w", "2w", "1mo", "2mo", "1q", "6mo", "1y"),
)
"""Durations of single look-backs, short to long."""

MOST_BARS = 2_100  # of a feature: a week of five-minute bars; longer ones cost more than they tell
FEWEST_BARS = 5  # of a deviation or a mean


def usable(names: Mapping[str, float], most: int) -> list[str]:
    """Return the durations of ``LADDER`` that are longer than a bar and at most ``most`` bars."""
    return [one for one in LADDER if exact_bars(one, names) >= 1.5 and count_bars(one, names) <= most]  # noqa: PLR2004 - less rounds to a bar


def longest(names: Mapping[str, float], wanted: str, most: int, fewest: int = 1) -> str | int:
    """Return the longest duration of ``MEMORIES``, up to ``wanted``, of ``fewest`` to ``most`` bars, as a reference.

    Returns:
        A reference ``${bars:...}``, or the number ``most`` itself where a bar is longer than any that fits.
    """
    bound = min(most, count_bars(wanted, names))
    fitting = [one for one in MEMORIES if exact_bars(one, names) >= 1.0 and fewest <= count_bars(one, names) <= bound]
    return reference(fitting[-1]) if fitting else max(fewest, bound)


def reference(duration: str) -> str:
    """Return the text that stands for a duration in a parameters file."""
    return f"${{bars:{duration}}}"


def resolved(value: Any, names: Mapping[str, float]) -> Any:
    """Return a value with all its references to durations as numbers of bars."""
    if isinstance(value, Mapping):
        return {key: resolved(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(inner, names) for inner in value]
    if isinstance(value, str) and value.startswith("${bars:"):
        return count_bars(value.removeprefix("${bars:").removesuffix("}"), names)
    return value


def feature_columns(names: Mapping[str, float], most: int, symbols: int, volume: bool) -> list[dict[str, Any]]:
    """Return feature columns whose look-backs are at most ``most`` bars.

    Args:
        names: ``bar_minutes``, ``session_minutes``, ``sessions_per_year``.
        most: Longest look-back.
        symbols: Symbols of the bars; ranks need two.
        volume: Whether there is volume.
    """
    horizons = usable(names, min(most - 1, MOST_BARS))
    long_enough = [one for one in horizons if count_bars(one, names) >= FEWEST_BARS]
    middle, last = _spread(long_enough)
    columns = [_column("return_bar", "log_return", 1)]
    columns += [_column(f"return_{one}", "log_return", reference(one)) for one in horizons]
    columns += [_column(f"volatility_{one}", "volatility", reference(one)) for one in dict.fromkeys((*middle, *last))]
    for one in middle:
        columns.append(_column(f"range_volatility_{one}", "range_volatility", reference(one)))
        columns += [_column(f"volume_surprise_{one}", "volume_surprise", reference(one))] if volume else []
    columns += [
        _column(f"moving_average_gap_{one}", "moving_average_gap", reference(one))
        for one in dict.fromkeys((*middle, *last))
    ]
    columns += _oscillators(most)
    if symbols > 1:
        ranked = [horizons[0], *last] if horizons else []
        columns += [_column(f"return_rank_{one}", "return_rank", reference(one)) for one in dict.fromkeys(ranked)]
    clocks = ["time_of_day", "day_of_week"] if names["bar_minutes"] < DAY else ["day_of_week"]
    clocks = clocks if names["bar_minutes"] <= DAY else []
    columns += [_column(f"{clock}_{wave}", f"{clock}_{wave}") for clock in clocks for wave in ("sine", "cosine")]
    return columns


def _spread(horizons: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the horizon in the middle and the longest one, each as a list that is empty if there is none."""
    return list(horizons[len(horizons) // 2 : len(horizons) // 2 + 1]), list(horizons[-1:])


def _column(name: str, indicator: str, bars: Any = None) -> dict[str, Any]:
    column = {"name": name, "indicator": indicator}
    return column if bars is None else {**column, "bars": bars}


def _oscillators(most: int) -> list[dict[str, Any]]:
    """Return the averages that chartists count in bars, as long as their slow memory fits."""
    from sentio_kedro.market.indicators import INDICATORS  # noqa: PLC0415 - TA-Lib, which looking at files does not need

    wanted = (("relative_strength", (14, 7)), ("trend_strength", (14, 7)), ("convergence_divergence", (12, 6)))
    columns = []
    for indicator, choices in (*wanted, ("band_position", (20, 10, 5))):
        fitting = [bars for bars in choices if INDICATORS[indicator].lookback(bars) <= most]  # type: ignore[index]
        columns += [_column(f"{indicator}_{fitting[0]}", indicator, fitting[0])] if fitting else []
    return columns
