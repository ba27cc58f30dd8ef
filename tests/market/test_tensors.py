"""Bars as tensors: what is missing is held and never filled from the future."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.market.bars import AlignedBars
from sentio_kedro.market.tensors import LEAST_VOLATILITY, market_tensors, trailing_volatility


def plain_features(bars, features=2):
    return np.random.default_rng(0).standard_normal((*bars.close.shape, features))


def posterior_of(bars):
    return np.full((len(bars.timestamps), 2), 0.5)


def with_gaps(bars, gaps):
    """The bars without those at ``gaps`` (pairs of a row slice and an asset)."""
    columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for rows, asset in gaps:
        for column in columns.values():
            column[rows, asset] = np.nan
    return AlignedBars(bars.timestamps, bars.symbols, **columns)


def test_a_missing_bar_is_untradable_and_holds_its_last_close(walk):
    bars = walk(20, 2)
    market = market_tensors(with_gaps(bars, [(slice(7, 10), 0)]), plain_features(bars), posterior_of(bars))
    last = bars.close[6, 0]
    assert market.close[6:10, 0].tolist() == [last] * 4
    assert market.open[7:10, 0].tolist() == [last] * 3
    assert market.tradable[:, 0].tolist() == [True] * 7 + [False] * 3 + [True] * 10
    assert market.tradable[:, 1].all()
    assert market.open[10, 0].item() == bars.open[10, 0]
    np.testing.assert_array_equal(market.close[:, 1], bars.close[:, 1])
    np.testing.assert_array_equal(market.open[:, 1], bars.open[:, 1])


@given(seed=st.integers(0, 50), length=st.integers(1, 39))
@settings(max_examples=20, deadline=None)
def test_nothing_is_filled_from_later_bars(walk, seed, length):
    bars = walk(40, 2, seed=seed, missing=0.3)
    features = plain_features(bars)
    head = AlignedBars(
        bars.timestamps[:length],
        bars.symbols,
        *(getattr(bars, name)[:length] for name in ("open", "high", "low", "close", "volume")),
    )
    whole = market_tensors(bars, features, posterior_of(bars))
    part = market_tensors(head, features[:length], posterior_of(head))
    assert all(torch.equal(a[:length], b) for a, b in zip(whole, part, strict=True))


def test_an_asset_that_has_not_begun_is_priced_one_and_untradable(walk):
    bars = walk(20, 2)
    market = market_tensors(with_gaps(bars, [(slice(0, 8), 1)]), plain_features(bars), posterior_of(bars))
    assert (market.close[:8, 1] == 1.0).all()
    assert (market.open[:8, 1] == 1.0).all()
    assert not market.tradable[:8, 1].any()
    assert market.close[8, 1].item() == bars.close[8, 1]
    assert market.open[8, 1].item() == bars.open[8, 1]


def test_a_row_without_all_its_features_is_untradable_and_reads_zero(walk):
    bars = walk(20, 2)
    features = plain_features(bars)
    features[:5, 0, 1] = np.nan
    market = market_tensors(bars, features, posterior_of(bars))
    assert not market.tradable[:5, 0].any()
    assert market.tradable[5:, 0].all()
    assert market.tradable[:, 1].all()
    assert (market.features[:5, 0] == 0.0).all()
    np.testing.assert_array_equal(market.features[5:, 0], features[5:, 0])


def slow_volatility(close, memory):
    """Root mean square of the returns known so far, at most ``memory`` of them, one by one."""
    rows = []
    for row in range(len(close)):
        returns = [math.log(close[t] / close[t - 1]) for t in range(max(1, row - memory + 1), row + 1)]
        mean = sum(move * move for move in returns) / max(1, len(returns))
        rows.append(max(math.sqrt(mean), LEAST_VOLATILITY))
    return rows


@pytest.mark.parametrize("memory", [1, 3, 10, 200])
def test_trailing_volatility_equals_a_slow_twin(walk, memory):
    close = walk(40, 2).close
    found = trailing_volatility(close, memory)
    for asset in range(2):
        assert found[:, asset].tolist() == pytest.approx(slow_volatility(close[:, asset], memory), rel=1e-9)


@given(length=st.integers(1, 39), memory=st.integers(1, 50))
@settings(max_examples=30, deadline=None)
def test_trailing_volatility_does_not_depend_on_later_prices(walk, length, memory):
    close = walk(40, 2).close.copy()
    before = trailing_volatility(close, memory)[:length]
    close[length:] *= 5.0
    np.testing.assert_array_equal(before, trailing_volatility(close, memory)[:length])
    np.testing.assert_array_equal(before, trailing_volatility(close[:length], memory))


def test_a_price_that_stands_still_has_the_least_volatility():
    assert (trailing_volatility(np.full((10, 1), 5.0)) == LEAST_VOLATILITY).all()


def test_moving_changes_the_precision_of_numbers_and_not_of_masks(walk):
    bars = walk(12, 2)
    market = market_tensors(bars, plain_features(bars), posterior_of(bars))
    assert {part.dtype for part in market} == {torch.float64, torch.bool}
    moved = market.to(torch.device("cpu"), torch.float32)
    assert {part.dtype for part in moved} == {torch.float32, torch.bool}
    assert (market.bars, market.assets) == (12, 2)


def test_the_volatility_of_an_asset_that_begins_late_knows_nothing_of_before() -> None:
    returns = np.random.default_rng(0).normal(0, 0.01, 60)
    close = 100 * np.exp(np.cumsum(returns))
    late = np.concatenate([np.full(40, np.nan), close])[:, None]
    assert np.allclose(trailing_volatility(late, 16)[40:, 0], trailing_volatility(close[:, None], 16)[:, 0])
