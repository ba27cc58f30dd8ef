"""A challenger and the champion on the rows that judged both."""

from __future__ import annotations

from typing import NamedTuple

from sentio_kedro.config import PromotionParameters
from sentio_kedro.evaluation.comparison.compare import TestedRun, sharpe_difference
from sentio_kedro.evaluation.comparison.returns import describe_rows, shared_rows


class ChampionComparison(NamedTuple):
    """How two runs compare.

    Attributes:
        rows: The rows that judged both, in words.
        bars: How many.
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
    """Compare two runs on the rows that judged both.

    The bars may have grown since the champion was judged: rows are the same where moment and move of the market are.

    Args:
        challenger: Run of the challenger.
        champion: Run of the champion.
        parameters: Fewest rows in common, and the bootstrap.

    Returns:
        The comparison; without a gain where costs differ, returns are missing or rows in common are too few.
    """
    mine, theirs = challenger.origin.get("execution"), champion.origin.get("execution")
    if mine is None or mine != theirs:
        return incomparable("Challenger and champion were judged under other costs or execution; judge both alike.")
    if challenger.returns is None or champion.returns is None:
        return incomparable(
            "The returns of challenger or champion were not kept; run `kedro run --pipeline reporting`."
        )
    one, other = shared_rows(challenger.returns, champion.returns)
    bars = int(one["timestamp"].nunique())  # folds may test a bar more than once
    if bars < parameters.min_common_bars:
        least = f"at least {parameters.min_common_bars} are asked for (`promotion.min_common_bars`)"
        return incomparable(f"Only {bars} bars judged both challenger and champion; {least}.", bars)
    found = sharpe_difference(one, other, challenger.periods_per_year, parameters)
    return ChampionComparison(describe_rows(one), bars, found.value, found.low, found.high, ())


def incomparable(reason: str, bars: int = 0) -> ChampionComparison:
    """Return the comparison of two runs that cannot be compared.

    Args:
        reason: Why, one sentence.
        bars: Rows that judged both.
    """
    return ChampionComparison("none", bars, None, None, None, (reason,))
