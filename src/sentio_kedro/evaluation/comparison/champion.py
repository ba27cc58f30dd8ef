"""Comparison of a challenger with the champion on the rows that both were tested on."""

from __future__ import annotations

from typing import NamedTuple

from sentio_kedro.config import PromotionParameters
from sentio_kedro.evaluation.comparison.compare import TestedRun, sharpe_difference
from sentio_kedro.evaluation.comparison.returns import describe_rows, headline_column, shared_rows


class ChampionComparison(NamedTuple):
    """Comparison of a challenger with the champion.

    Attributes:
        rows: The shared test rows, in words.
        bars: Number of shared bars.
        gain: Sharpe ratio of the challenger less the champion's on them; None if they cannot be compared.
        low: Lower end of its interval.
        high: Upper end.
        refusals: Why they cannot be compared, sentences; empty if they can.
    """

    rows: str
    bars: int
    gain: float | None
    low: float | None
    high: float | None
    refusals: tuple[str, ...]


def compare_with_champion(
    challenger: TestedRun, champion: TestedRun, parameters: PromotionParameters
) -> ChampionComparison:
    """Compare two runs on the rows that both were tested on; the bars may have grown since the champion's test.

    Args:
        challenger: Run of the challenger.
        champion: Run of the champion.
        parameters: Minimum number of shared bars, and the bootstrap.

    Returns:
        The comparison; without a gain if costs differ, returns are missing or too few bars are shared.
    """
    execution = challenger.origin.get("execution")
    if execution is None or execution != champion.origin.get("execution"):
        return incomparable("Challenger and champion were tested under other costs or execution; test both alike.")
    if challenger.returns is None or champion.returns is None:
        return incomparable(
            "The returns of challenger or champion were not stored; run `kedro run --pipeline reporting`."
        )
    if headline_column(challenger.returns) is None or headline_column(champion.returns) is None:
        return incomparable("Challenger or champion was tested before agents decided as one; test it again.")
    new, old = shared_rows(challenger.returns, champion.returns)
    bars = int(new["timestamp"].nunique())  # folds may test a bar more than once
    if bars < parameters.min_common_bars:
        bound = f"at least {parameters.min_common_bars} are required (`promotion.min_common_bars`)"
        return incomparable(f"Challenger and champion share only {bars} tested bars; {bound}.", bars)
    gain = sharpe_difference(new, old, challenger.periods_per_year, parameters)
    return ChampionComparison(describe_rows(new), bars, *gain, ())


def incomparable(reason: str, bars: int = 0) -> ChampionComparison:
    """Return the comparison of two runs that cannot be compared, with one sentence why."""
    return ChampionComparison("none", bars, None, None, None, (reason,))
