"""Trailing sums: those of the window, whatever came before it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.market.trailing import trailing_mean, trailing_sum


@given(rows=st.integers(0, 60), length=st.integers(1, 130), seed=st.integers(0, 99))
def test_sums_and_means_equal_a_slow_twin(rows, length, seed):
    values = np.random.default_rng(seed).standard_normal((rows, 2))
    windows = [values[max(0, row - length + 1) : row + 1] for row in range(rows)]
    for found, slow in ((trailing_sum, np.sum), (trailing_mean, np.mean)):
        expected = np.array([slow(window, axis=0) for window in windows]).reshape(rows, 2)
        np.testing.assert_allclose(found(values, length), expected, atol=1e-12)
    np.testing.assert_array_equal(trailing_sum(values, length)[: rows // 2], trailing_sum(values[: rows // 2], length))


def test_what_has_left_the_window_leaves_no_error():
    values = np.concatenate([[1e17, 1.0, 3.0], np.full(20, 0.1)])
    assert trailing_sum(values, 4)[-1] == pytest.approx(0.4, rel=1e-15)


def test_unknown_values_do_not_count():
    values = np.array([np.nan, 1.0, 3.0, np.nan, 8.0])
    np.testing.assert_allclose(trailing_mean(values, 3, np.isfinite(values)), [0.0, 1.0, 2.0, 2.0, 5.5])
