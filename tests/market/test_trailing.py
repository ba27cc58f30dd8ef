"""Trailing sums: those of the window, whatever came before it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.market.trailing import SessionRows, sum_before, trailing_mean, trailing_sum


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


def test_rows_are_numbered_by_session_and_place():
    rows = SessionRows.of(np.array([3, 3, 7, 7, 7, 8]))
    assert rows.session.tolist() == [0, 0, 1, 1, 1, 2]  # sessions without rows do not count
    assert rows.place.tolist() == [0, 1, 0, 1, 2, 0]
    assert (rows.sessions, rows.longest) == (3, 3)
    values = np.arange(1.0, 7.0)[:, None]
    laid = [[[1.0], [2.0], [np.nan]], [[3.0], [4.0], [5.0]], [[6.0], [np.nan], [np.nan]]]
    np.testing.assert_array_equal(rows.grid(values, 0, 3), laid)
    np.testing.assert_array_equal(rows.grid(values, 1, 2), laid[1:2])
    assert rows.so_far(values)[:, 0].tolist() == [1.0, 3.0, 3.0, 7.0, 12.0, 6.0]
    assert rows.totals(values)[:, 0].tolist() == [3.0, 12.0, 6.0]
    assert sum_before(rows.totals(values), 1)[:, 0].tolist() == [0.0, 3.0, 12.0]


@settings(deadline=None)  # the first call compiles
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=12), memory=st.integers(2, 6), seed=st.integers(0, 99))
def test_a_window_of_sessions_begins_after_the_same_place(lengths, memory, seed):
    session = np.repeat(np.arange(len(lengths)), lengths)
    place = np.concatenate([np.arange(length) for length in lengths])
    values = np.random.default_rng(seed).standard_normal((len(session), 2))
    found = SessionRows.of(session).trailing_sum(values, memory)
    for row in range(len(session)):
        window = [t for t in range(row + 1) if (session[t], place[t]) > (session[row] - memory, place[row])]
        np.testing.assert_allclose(found[row], values[window].sum(axis=0), atol=1e-12)
    half = len(session) // 2 + 1
    np.testing.assert_array_equal(found[:half], SessionRows.of(session[:half]).trailing_sum(values[:half], memory))
