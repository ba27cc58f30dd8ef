"""Challenger and champion are compared on shared test rows, or not at all."""

import numpy as np
import pytest
from tests.evaluation.judged import PER_YEAR, returns, run

from sentio_kedro.config import PromotionParameters
from sentio_kedro.evaluation.comparison.champion import compare_with_champion

PARAMETERS = PromotionParameters(min_common_bars=50, bootstrap_samples=50)


@pytest.fixture(scope="module")
def luck():
    return np.random.default_rng(0).normal(0.0, 0.01, 400)


def test_the_gain_is_that_on_the_rows_in_common_though_the_bars_have_grown(luck):
    def sharpe(values):
        return values.mean() / values.std(ddof=1) * np.sqrt(PER_YEAR)

    grown = run(2, returns(luck + 0.001).iloc[100:], origin={"bars": "more", "execution": "e"})
    comparison = compare_with_champion(grown, run(1, returns(luck).iloc[:300]), PARAMETERS)
    assert comparison.bars == 200
    assert comparison.gain == pytest.approx(sharpe(luck[100:300] + 0.001) - sharpe(luck[100:300]))
    assert comparison.low <= comparison.gain <= comparison.high
    assert comparison.rows == "2024-04-10 to 2024-10-26, 200 bars"
    assert comparison.refusals == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"origin": {"bars": "b", "execution": "x"}}, "under other costs or execution"),
        ({"origin": {"bars": "b"}}, "under other costs or execution"),
        ({"returns": None}, "were not stored"),
        (
            {"returns": returns(np.zeros(49), bars=49, market=np.linspace(-0.01, 0.01, 400)[:49])},
            "share only 49 ",
        ),
        ({"returns": returns(np.zeros(400), market=np.ones(400))}, "share only 0 "),
    ],
)
def test_what_cannot_be_compared_has_no_gain_and_a_reason(luck, changes, reason):
    comparison = compare_with_champion(run(2, returns(luck), **changes), run(1, returns(luck)), PARAMETERS)
    assert (comparison.gain, comparison.low, comparison.high) == (None, None, None)
    assert reason in comparison.refusals[0]
