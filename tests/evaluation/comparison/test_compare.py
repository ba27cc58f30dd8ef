"""Runs side by side: only equal tests are compared, and what the market did to both cancels."""

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.judged import PER_YEAR, returns, run

from sentio_kedro.config import ComparisonParameters
from sentio_kedro.evaluation.comparison.compare import compare_runs, sharpe_difference
from sentio_kedro.evaluation.comparison.page import comparison_figure, comparison_text, run_labels

PARAMETERS = ComparisonParameters(experiment="toy", metrics=["agent.sharpe", "agent.pbo"], bootstrap_samples=200)


@pytest.fixture(scope="module")
def luck():
    return np.random.default_rng(0).normal(0.0, 0.01, 400)


def test_the_difference_is_that_of_the_ensembles(luck):
    def sharpe(values):
        return values.mean() / values.std(ddof=1) * np.sqrt(PER_YEAR)

    seeds = returns(luck + 0.001, luck + 0.009)
    difference = sharpe_difference(seeds.assign(ensemble=luck + 0.002), returns(luck), PER_YEAR, PARAMETERS)
    assert difference.value == pytest.approx(sharpe(luck + 0.002) - sharpe(luck))
    assert difference.low < difference.value < difference.high


def test_chance_that_both_had_cancels_and_ones_own_does_not(luck):
    other = np.random.default_rng(1).normal(0.0, 0.01, 400)
    paired = sharpe_difference(returns(luck + 0.0005), returns(luck), PER_YEAR, PARAMETERS)
    apart = sharpe_difference(returns(other + 0.0005), returns(luck), PER_YEAR, PARAMETERS)
    assert paired.low > 0.0
    assert apart.low < 0.0 < apart.high
    assert paired.high - paired.low < 0.2 * (apart.high - apart.low)


def test_bars_that_several_folds_test_count_once(luck):
    noise = np.random.default_rng(3).normal(0.0, 0.01, 400)
    one, other = returns(luck + noise), returns(luck)
    again = [pd.concat([frame.assign(fold=fold) for fold in range(4)]) for frame in (one, other)]
    expected = sharpe_difference(one, other, PER_YEAR, PARAMETERS)
    assert sharpe_difference(*again, PER_YEAR, PARAMETERS) == pytest.approx(expected)


def test_a_run_is_set_beside_the_first_one(luck):
    table = compare_runs([run(1, returns(luck)), run(2, returns(luck + 0.001))], PARAMETERS)
    assert table["comparable"].all()
    assert table["agent.sharpe"].tolist() == [1.0, 2.0]
    assert table["agent.pbo"].isna().all()
    assert np.isnan(table["sharpe_difference"][0])
    assert table["difference_low"][1] > 0.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"origin": {"bars": "x", "execution": "e"}}, "other bars"),
        ({"origin": {"bars": "b", "execution": "x"}}, "other costs or execution"),
        ({"origin": {"bars": "b"}}, "costs or execution unknown"),
        ({"returns": returns(np.zeros(300), bars=300)}, r"other test rows (2024-01-01 to 2024-10-26, 300 bars)"),
        ({"returns": returns(np.zeros(400), market=np.zeros(400))}, "other test rows"),
        ({"returns": None}, "its returns were not stored"),
        ({"returns": returns(np.zeros(400), np.zeros(400))}, "tested before agents decided as one"),
    ],
)
def test_what_was_judged_otherwise_is_not_compared_and_says_why(luck, changes, reason):
    table = compare_runs([run(1, returns(luck)), run(2, returns(luck + 0.001), **changes)], PARAMETERS)
    row = table.iloc[1]
    assert not row["comparable"]
    assert reason in row["differs_in"]
    assert np.isnan([row["sharpe_difference"], row["difference_low"], row["difference_high"]]).all()
    text = comparison_text(table, PARAMETERS.metrics, 0.95)
    assert f"run 2 (not comparable): {row['differs_in']}. Its metrics do not show which agents are better." in text
    assert "better;" not in text


def test_no_run_is_refused():
    with pytest.raises(ValueError, match="no run to compare"):
        compare_runs([], PARAMETERS)


def test_the_page_says_better_worse_or_neither(luck):
    noise = np.random.default_rng(2).normal(0.0, 0.01, 400)
    runs = [run(number, returns(column)) for number, column in enumerate([luck, luck + 0.001, luck - 0.001, noise])]
    text = comparison_text(compare_runs(runs, PARAMETERS), PARAMETERS.metrics, 0.95)
    assert "run 0 (reference): tested on 2024-01-01 to 2025-02-03, 400 bars." in text
    assert "run 1: better; Sharpe difference" in text
    assert "run 2: worse; Sharpe difference" in text
    assert "run 3: cannot be told apart; Sharpe difference" in text
    assert "| run 1 | 1.00 | \u2013 |" in text


def test_every_run_has_a_line_of_its_own_in_the_figure(luck):
    runs = [run(1, returns(luck)), run(2, returns(luck + 0.001)), run(3, None, name="run 2")]
    metrics = {"metrics": ["agent.sharpe", "agent.sharpe_low", "agent.sharpe_high", "agent.max_drawdown"]}
    table = compare_runs(runs, ComparisonParameters(experiment="toy", bootstrap_samples=50, **metrics))
    assert run_labels(table) == ["run 1 (reference)", "run 2 222222", "run 2 333333 (not comparable)"]
    figure = comparison_figure(table)
    sharpes = [trace for trace in figure.data if trace.xaxis == "x"]
    assert [trace.x[0] for trace in sharpes] == [1.0, 2.0, 3.0]
    assert [trace.error_x.array[0] for trace in sharpes] == [8.0, 7.0, 6.0]
    assert len({trace.y[0] for trace in sharpes}) == 3
    differences = [trace.x[0] for trace in figure.data if trace.xaxis == "x2"]
    assert differences[0] is None
    assert differences[1] == pytest.approx(table["sharpe_difference"][1], rel=1e-5)
    assert differences[2] is None
