"""Total-return prices that never rewrite history."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.data.resampling import relative_bars
from sentio_kedro.config import FeatureColumn
from sentio_kedro.config.market import SESSION_PRICE_INDICATORS
from sentio_kedro.market.indicators import INDICATORS, compute_features
from sentio_kedro.market.ingestion.adjustment import adjusted, adjustment_factors
from sentio_kedro.market.regimes import market_return

PRICES = ("open", "high", "low", "close")
ACTIONS = {(50, 0): (4.0, 0.0), (120, 0): (1.0, 2.5), (120, 1): (0.05, 0.0), (260, 1): (3.0, 1.5), (0, 1): (2.0, 5.0)}
COLUMNS = [
    FeatureColumn(name=name, indicator=name, bars=50 if name in SESSION_PRICE_INDICATORS else 3)
    for name, indicator in INDICATORS.items()
    if indicator.own is None
]


def test_the_factor_follows_its_formula_by_hand(walk):
    close = np.array([[100.0], [24.0], [25.0], [20.0]])
    bars = replace(
        walk(4),
        **{name: close for name in PRICES},
        split=np.array([[1.0], [4.0], [1.0], [2.0]]),
        dividend=np.array([[0.0], [1.0], [5.0], [0.0]]),
    )
    factors = adjustment_factors(bars)
    steps = np.array([1.0, 4.0 * 25.0 / 24.0, 24.0 / 19.0, 2.0])  # previous close over split: 25, 24, 12.5
    np.testing.assert_allclose(factors.price[:, 0], np.cumprod(steps))
    np.testing.assert_array_equal(factors.split[:, 0], [1.0, 4.0, 4.0, 8.0])
    whole = adjusted(bars)
    np.testing.assert_allclose(whole.close[1:] / whole.close[:-1], [[24 / 24], [25 / 19], [20 / 12.5]])
    np.testing.assert_allclose(whole.volume * factors.split, bars.volume)
    assert whole.split is None
    assert whole.dividend is None
    assert adjusted(whole) is whole


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_adjusting_gives_the_total_return_prices_back(walk, traded, missing):
    whole = walk(400, 2, seed=1, missing=missing)
    found = adjusted(traded(whole, ACTIONS))
    for name in (*PRICES, "volume"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_whatever_reads_returns_sees_total_returns(walk, traded, missing):
    whole = walk(400, 2, seed=2, missing=missing)
    bars = traded(whole, ACTIONS)
    np.testing.assert_allclose(compute_features(bars, COLUMNS), compute_features(whole, COLUMNS), rtol=0, atol=1e-9)
    np.testing.assert_allclose(market_return(bars), market_return(whole), rtol=0, atol=1e-12)
    ours, theirs = relative_bars(bars), relative_bars(whole)
    for name in (*PRICES, "volume"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-9)
    raw = replace(bars, split=None, dividend=None)
    assert np.nanmax(np.abs(compute_features(raw, COLUMNS) - compute_features(whole, COLUMNS))) > 0.5


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 60), seed=st.integers(0, 99), row=st.integers(0, 59), split=st.sampled_from([0.1, 2.0]))
def test_later_splits_and_dividends_rewrite_nothing(walk, traded, length, seed, row, split):
    bars = traded(walk(60, 2, seed, missing=0.2), {(row, 0): (split, 0.0), (30, 1): (1.0, 4.0), (55, 0): (3.0, 1.0)})
    head, whole = adjusted(bars.rows(slice(0, length))), adjusted(bars)
    for name in (*PRICES, "volume"):
        np.testing.assert_array_equal(getattr(head, name), getattr(whole, name)[:length])


def test_bars_without_actions_are_returned_as_they_are(walk):
    bars = walk(20, 2)
    assert adjusted(bars) is bars
    neutral = replace(bars, split=np.ones((20, 2)), dividend=np.zeros((20, 2)))
    assert adjusted(neutral) is neutral
    assert adjustment_factors(neutral) is None


def test_spread_and_funding_are_rates_and_stay(walk, traded):
    bars = replace(traded(walk(60, 2), {(30, 0): (2.0, 1.0)}), spread=np.full((60, 2), 0.01), funding=np.ones((60, 2)))
    assert adjusted(bars).spread is bars.spread
    assert adjusted(bars).funding is bars.funding


def test_a_dividend_above_the_price_is_refused_by_symbol_and_stamp(walk):
    bars = walk(20, 2)
    split, dividend = np.ones((20, 2)), np.zeros((20, 2))
    split[7, 1], dividend[7, 1] = 2.0, bars.close[6, 1] / 2.0
    with pytest.raises(ValueError, match=r"below the previous close.*B 2020-01-01T04:00:00Z.*correct the dividend"):
        adjusted(replace(bars, split=split, dividend=dividend))
    dividend[7, 1] *= 0.99
    assert (adjusted(replace(bars, split=split, dividend=dividend)).close > 0.0).all()
