"""The population stability index: exact on small samples, blind to units, alarmed by a shift."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.evaluation.comparison.drift import feature_drift, stability_index

HUNDRED = np.arange(100.0)


def test_equal_samples_have_no_drift_and_a_shifted_one_has_what_the_formula_says():
    assert stability_index(HUNDRED, HUNDRED) == 0.0
    lower = np.arange(50.0)  # five bins of ten values get all, five get none
    expected = np.full(10, 0.1)
    observed = np.array([10.5] * 5 + [0.5] * 5) / 55.0
    exact = ((observed - expected) * np.log(observed / expected)).sum()
    assert stability_index(HUNDRED, lower) == pytest.approx(exact)


@given(st.floats(0.01, 100.0), st.floats(-10.0, 10.0))
def test_units_do_not_matter(scale, shift):
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal(500), rng.standard_normal(200) + 0.3
    assert stability_index(scale * one + shift, scale * other + shift) == pytest.approx(stability_index(one, other))


def test_twice_the_volatility_is_a_large_shift_and_another_sample_of_one_law_is_none():
    rng = np.random.default_rng(0)
    train = rng.standard_normal(10_000)
    assert stability_index(train, rng.standard_normal(1_000)) < 0.03
    assert stability_index(train, 2.0 * rng.standard_normal(1_000)) > 0.25


def test_what_is_missing_is_left_out_and_nothing_at_all_is_undefined():
    holes = np.concatenate([HUNDRED, [np.nan, np.inf]])
    assert stability_index(holes, HUNDRED) == 0.0
    assert stability_index(HUNDRED, np.array([np.nan])) is None
    assert stability_index(HUNDRED[:0], HUNDRED) is None


def test_a_column_that_never_changes_does_not_drift_until_it_does():
    still = np.ones(50)
    assert stability_index(still, still) == 0.0
    assert stability_index(still, still + 1.0) > 1.0


def test_the_drift_of_the_market_is_the_mean_over_features_and_undefined_if_one_is():
    train = np.stack([HUNDRED, HUNDRED], axis=-1)[:, None]
    newest = np.stack([HUNDRED, HUNDRED / 2], axis=-1)[:, None]
    assert feature_drift(train, newest) == pytest.approx(stability_index(HUNDRED, HUNDRED / 2) / 2)
    newest[..., 0] = np.nan
    assert feature_drift(train, newest) is None
