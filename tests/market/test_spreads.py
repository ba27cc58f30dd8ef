"""Estimated spreads: those that were planted, from bars known at the close."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.market.trailing import estimated_spread


def bounced(spread, bars=4_000, trades=60, volatility=0.01, seed=0):
    """High, low and close of random walks whose trades happen at the bid or the ask, each [bars, 1]."""
    rng = np.random.default_rng(seed)
    middle = 4.0 + np.cumsum(volatility / trades**0.5 * rng.standard_normal(bars * trades))
    traded = np.exp(middle + 0.5 * spread * rng.choice([-1.0, 1.0], bars * trades)).reshape(bars, trades)
    return traded.max(axis=1)[:, None], traded.min(axis=1)[:, None], traded[:, -1:]


@pytest.mark.parametrize("spread", [0.005, 0.01, 0.03])
def test_a_planted_spread_is_recovered(spread):
    estimate = estimated_spread(*bounced(spread, 20_000), bars=20_000)[-1, 0]
    assert estimate == pytest.approx(spread, rel=0.1)


def test_the_mean_is_that_of_the_last_pairs():
    high, low, close = bounced(0.02, bars=50)
    found = estimated_spread(high, low, close, bars=7)[:, 0]
    middle, last = 0.5 * np.log(high * low)[:, 0], np.log(close[:, 0])
    terms = [4.0 * (last[t - 1] - middle[t - 1]) * (last[t - 1] - middle[t]) for t in range(1, 50)]
    assert found[0] == 0.0
    for row in (1, 3, 7, 30, 49):
        mean = np.mean(terms[max(0, row - 7) : row])
        assert found[row] == pytest.approx(max(mean, 0.0) ** 0.5, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 60), seed=st.integers(0, 99))
def test_later_bars_change_nothing(walk, length, seed):
    bars = walk(60, 2, seed, missing=0.2)
    whole = estimated_spread(bars.high, bars.low, bars.close, 10)
    head = bars.rows(slice(0, length))
    np.testing.assert_array_equal(estimated_spread(head.high, head.low, head.close, 10), whole[:length])


def test_an_asset_is_estimated_from_its_own_bars_and_held_without_one(walk):
    bars = walk(80, 2, seed=3, missing=0.3)
    found = estimated_spread(bars.high, bars.low, bars.close, 12)
    for asset in range(2):
        rows = np.flatnonzero(bars.present[:, asset])
        own = [column[rows, asset : asset + 1] for column in (bars.high, bars.low, bars.close)]
        np.testing.assert_array_equal(found[rows, asset], estimated_spread(*own, 12)[:, 0])
        gaps = np.setdiff1d(np.arange(rows[0] + 1, 80), rows)
        np.testing.assert_array_equal(found[gaps, asset], found[gaps - 1, asset])
        assert (found[: rows[1], asset] == 0.0).all()


def test_prices_without_a_bounce_have_no_spread():
    flat = np.full((10, 1), 5.0)
    assert (estimated_spread(flat, flat, flat, 4) == 0.0).all()
    trend = np.exp(np.linspace(0.0, 1.0, 30))[:, None]
    assert (estimated_spread(trend * 1.01, trend * 0.99, trend * 1.005, 8) == 0.0).all()  # a negative mean counts as 0
