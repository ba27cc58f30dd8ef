"""Kupiec's test: the regions that his paper tabulates, and exact ratios."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.evaluation.statistics.kupiec import kupiec_p, likelihood_ratio


@pytest.mark.parametrize(
    ("days", "rate", "first", "last"),
    [
        *((255, 0.01, 1, 6), (510, 0.01, 2, 10), (1_000, 0.01, 5, 16)),
        *((255, 0.025, 3, 11), (510, 0.025, 7, 20), (1_000, 0.025, 16, 35)),
        *((255, 0.05, 7, 20), (510, 0.05, 17, 35), (1_000, 0.05, 38, 64)),
        *((255, 0.075, 12, 27), (510, 0.075, 28, 50), (1_000, 0.075, 60, 91)),
        *((255, 0.1, 17, 35), (510, 0.1, 39, 64), (1_000, 0.1, 82, 119)),
    ],
)
def test_counts_that_are_not_rejected_at_five_percent_are_those_of_the_paper(
    days: int, rate: float, first: int, last: int
) -> None:
    kept = [count for count in range(days // 4) if kupiec_p(days, count, rate) > 0.05]
    assert (kept[0], kept[-1]) == (first, last)  # the paper leaves out the lowest end, 1 of 255 days at 1 %


def test_ratios_are_exact() -> None:
    assert likelihood_ratio(250, 0, 0.01) == pytest.approx(-500.0 * math.log(0.99), rel=1e-12)
    assert likelihood_ratio(10, 10, 0.5) == pytest.approx(20.0 * math.log(2.0), rel=1e-12)
    assert likelihood_ratio(200, 10, 0.05) == pytest.approx(0.0, abs=1e-12)
    found = likelihood_ratio(4, 1, 0.5)
    assert found == pytest.approx(2.0 * (3.0 * math.log(1.5) + math.log(0.5)), rel=1e-12)
    assert kupiec_p(4, 1, 0.5) == pytest.approx(math.erfc(math.sqrt(found / 2.0)), rel=1e-12)
    assert kupiec_p(200, 10, 0.05) == pytest.approx(1.0)


@given(st.integers(1, 5_000), st.floats(0.0, 1.0), st.floats(0.001, 0.999))
def test_exceeding_and_not_exceeding_are_the_same_question(days: int, share: float, rate: float) -> None:
    count = round(share * days)
    p = kupiec_p(days, count, rate)
    assert 0.0 <= p <= 1.0
    assert likelihood_ratio(days, days - count, 1.0 - rate) == pytest.approx(
        likelihood_ratio(days, count, rate), rel=1e-6, abs=1e-7
    )


def test_impossible_counts_are_refused_together() -> None:
    with pytest.raises(ValueError, match=r"`exceedances` must lie in \[0, 10\], was 11.*`rate`.*was 1.0"):
        likelihood_ratio(10, 11, 1.0)
    with pytest.raises(ValueError, match=r"`observations` must be at least 1, was 0"):
        likelihood_ratio(0, 0, 0.01)
