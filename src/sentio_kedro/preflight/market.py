"""Bars, and the parameters that must fit them: calendar, symbols, look-backs, folds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from sentio_kedro.config import AgentParameters, BacktestParameters
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.session_checks import placed_in_sessions, session_findings
from sentio_kedro.market.ingestion.timestamps import Timestamps, most_common_gap
from sentio_kedro.preflight.capacity import check_capacity

Load = Callable[[str], Any]
"""Loads a dataset of the catalog by name; null if it does not exist."""

T = TypeVar("T")

LENGTH_TOLERANCE = 0.1  # of a bar's length; months have 28 to 31 days

SPLIT = frozenset(
    {"cross_validation", "regimes", "forecasting", "training", "backtest", "reporting", "search", "lockbox"}
)
"""Pipelines that work on folds of these bars."""

TRADED = SPLIT - {"cross_validation", "regimes", "reporting"}
"""Pipelines that trade these bars by the section ``trading``."""

LEARNT = frozenset({"training", "search"})
"""Pipelines that train."""


@dataclass(frozen=True)
class MarketPlan:
    """The grid of bars and its folds.

    Attributes:
        bars: The raw bars aligned.
        folds: Their folds; null if none are needed or they cannot be made.
    """

    bars: AlignedBars
    folds: Folds | None = None


def attempt(problems: list[str], function: Callable[..., T], *arguments: Any) -> T | None:
    """Call a function; if it refuses, put the reason into ``problems`` and return None."""
    try:
        return function(*arguments)
    except (ValueError, FileNotFoundError) as error:
        problems.append(str(error))
        return None


def plan_market(
    bars: pd.DataFrame,
    parameters: Mapping[str, Any],
    running: Collection[str],
    problems: list[str],
    universe: pd.DataFrame | None = None,
    bar_minutes: float | None = None,
) -> MarketPlan | None:
    """Align raw bars and split them, by the functions of the pipelines; their refusals go into ``problems``.

    Args:
        bars: Raw bars.
        parameters: Typed sections by name.
        running: Pipelines that run.
        problems: Receives all refusals.
        universe: Table of a dated universe; null without one.
        bar_minutes: Length of a bar by ``globals.yml``, in which durations are counted; null if it names none.

    Returns:
        The plan; null if the bars cannot be used.
    """
    aligned = attempt(problems, align_bars, bars, parameters["ingestion"], universe, parameters.get("universe"))
    trading = parameters["trading"]
    if aligned is not None:
        aligned = attempt(problems, placed_in_sessions, aligned, parameters["ingestion"], trading)
    if aligned is None:
        return None
    attempt(problems, session_findings, aligned, parameters["ingestion"], trading)
    attempt(problems, check_capacity, aligned, trading)
    problems += _length_problems(aligned.timestamps, bar_minutes)
    if not SPLIT.isdisjoint(running) or "features" in running:
        from sentio_kedro.market.indicators import longest_lookback  # noqa: PLC0415 - TA-Lib; ingestion needs no columns

        lookback = attempt(problems, longest_lookback, parameters["features"].columns)
        attempt(problems, _check_columns, aligned, parameters)
        problems += _look_back_problems(len(aligned.timestamps), lookback or 1, parameters["backtest"], running)
    if SPLIT.isdisjoint(running) or lookback is None:
        return MarketPlan(aligned)
    from sentio_kedro.agent.spans import plan_folds  # noqa: PLC0415 - the agent, which earlier pipelines do not need

    sections = (parameters[name] for name in ("cross_validation", "network", "regimes", "training", "trading"))
    folds = attempt(problems, plan_folds, aligned.timestamps, lookback, *sections)
    if not TRADED.isdisjoint(running) and folds is not None:
        from sentio_kedro.preflight.trading import check_trading  # noqa: PLC0415 - torch; only these pipelines need it

        attempt(problems, check_trading, aligned, parameters)
    if not LEARNT.isdisjoint(running):
        attempt(problems, AgentParameters, *(parameters[name] for name in ("network", "training", "trading")))
    if folds is not None and "search" in running:
        from sentio_kedro.preflight.search import check_search  # noqa: PLC0415 - optuna, which no other pipeline needs

        attempt(problems, check_search, folds, parameters)
    return MarketPlan(aligned, folds)


def _check_columns(bars: AlignedBars, parameters: Mapping[str, Any]) -> None:
    """Refuse columns that the features stage could not compute."""
    from sentio_kedro.market.indicators import column_times, own_columns, require_inputs  # noqa: PLC0415 - TA-Lib

    columns = parameters["features"].columns
    require_inputs(bars, columns, column_times(bars.timestamps, columns, parameters["trading"].calendar))
    for name in own_columns(columns):
        unknown = np.isnan(bars.own[name]).all(axis=0)  # [A]
        silent = [bars.symbols[asset] for asset in np.flatnonzero(unknown)]
        if silent:
            raise ValueError(
                f"The own column `{name}` has no value of {silent}, which would never be traded; add the values, or "
                "leave out the symbols or the feature."
            )


def _length_problems(timestamps: Timestamps, bar_minutes: float | None) -> list[str]:
    """Refuse bars of another length than durations such as ``${bars:1d}`` were counted in; months vary a little."""
    if bar_minutes is None or len(timestamps) < 2:  # noqa: PLR2004 - one bar has no length
        return []
    measured = float(most_common_gap(timestamps) / np.timedelta64(1, "m"))
    if abs(measured / bar_minutes - 1.0) <= LENGTH_TOLERANCE:
        return []
    return [
        f"`bar_minutes` of globals.yml must be the length of the bars, {measured:g} minutes, was {bar_minutes:g}: "
        "durations such as ${bars:1d} are counted in it; correct it, or the bars."
    ]


def _look_back_problems(bars: int, lookback: int, backtest: BacktestParameters, running: Collection[str]) -> list[str]:
    """List look-backs of more than all bars, which would leave features and baselines empty."""
    needed = {"the longest `lookback` of `features.columns`": lookback} if "features" in running else {}
    if not {"backtest", "lockbox"}.isdisjoint(running):
        needed |= {"`backtest.momentum_bars`": backtest.momentum_bars}
        if not {"minimum_variance", "risk_parity"}.isdisjoint(backtest.baselines):
            needed |= {"`backtest.portfolio_bars`": backtest.portfolio_bars}
    return [
        f"{name} must be below the number of bars, {bars}, was {value}; lower it, or give more bars."
        for name, value in needed.items()
        if value >= bars
    ]
