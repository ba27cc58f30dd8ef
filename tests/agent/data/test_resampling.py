"""Resampled paths: real bars in a new order, from train rows alone, chained without a seam."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.data.resampling import path_levels, relative_bars, resample
from sentio_kedro.market.purged_folds import Segment

PRICES = ("open", "high", "low", "close")


def rng_of(seed):
    return np.random.default_rng(seed)


def resample_bars(bars, *given):
    return resample(relative_bars(bars), *given)


def begun(bars, path):
    """The close before each bar of ``path`` [length, A] if every row of ``bars`` but the first may be drawn."""
    return np.vstack([np.median(bars.close[1:], axis=0), path.close[:-1]])


@settings(max_examples=30, deadline=None)
@given(
    start=st.integers(0, 30),
    length=st.integers(1, 200),
    block=st.integers(1, 40),
    seed=st.integers(0, 999),
)
def test_paths_are_valid_bars_of_segment_rows_alone(walk, start, length, block, seed):
    bars = walk(120, 2, seed)
    segments = [Segment(start, start + 20), Segment(60, 90)]
    poisoned = replace(bars, **{name: getattr(bars, name).copy() for name in (*PRICES, "volume")})
    allowed = np.r_[start : start + 20, 60:90]
    for name in PRICES:
        getattr(poisoned, name)[np.setdiff1d(np.arange(120), allowed)] *= 10.0
    poisoned.volume[90:] *= 1e6
    path, rows = resample_bars(poisoned, segments, length, block, rng_of(seed))
    drawn = {*range(start + 1, start + 20), *range(61, 90)}
    assert len(rows) == length == len(path.timestamps)
    assert set(rows.tolist()) <= drawn
    assert (path.high >= np.maximum(path.open, path.close) * (1 - 1e-12)).all()
    assert (path.low <= np.minimum(path.open, path.close) * (1 + 1e-12)).all()
    assert (np.diff(path.timestamps) > np.timedelta64(0)).all()
    clean, same = resample_bars(bars, segments, length, block, rng_of(seed))
    np.testing.assert_array_equal(rows, same)
    for name in (*PRICES, "volume"):  # no price outside the segments is read, and nothing after them
        np.testing.assert_allclose(getattr(path, name), getattr(clean, name), rtol=1e-12)


def test_each_bar_keeps_its_ratios_to_the_previous_close(walk):
    bars = walk(300, 3, seed=1)
    path, rows = resample_bars(bars, [Segment(0, 300)], 500, 16, rng_of(0))
    before = begun(bars, path)
    for name in PRICES:
        np.testing.assert_allclose(getattr(path, name) / before, getattr(bars, name)[rows] / bars.close[rows - 1])
    breaks = (np.diff(rows) != 1).sum() + 1
    assert 500 / 16 / 2 < breaks < 500 / 16 * 2


def test_mean_block_length_is_the_parameter(walk):
    relative = relative_bars(walk(5_000))
    _, rows = resample(relative, [Segment(0, 5_000)], 40_000, 20, rng_of(0))
    assert 40_000 / ((np.diff(rows) != 1).sum() + 1) == pytest.approx(20, rel=0.08)
    counts = np.bincount(rows, minlength=5_000)
    assert counts[100:].std() / counts[100:].mean() < 1.0


def test_missing_bars_stay_missing_and_the_chain_goes_on(walk):
    bars = walk(80, 2, missing=0.2, seed=4)
    path, rows = resample_bars(bars, [Segment(0, 80)], 300, 8, rng_of(1))
    had_close = np.isfinite(bars.held_close()[rows - 1])
    np.testing.assert_array_equal(path.present, bars.present[rows] & had_close)
    np.testing.assert_array_equal(np.isfinite(path.volume), path.present)
    held = path.held_close()
    for asset in range(2):
        here = np.flatnonzero(path.present[:, asset])[1:]
        source = rows[here]
        got = path.close[here, asset] / held[here - 1, asset]
        np.testing.assert_allclose(got, bars.close[source, asset] / bars.held_close()[source - 1, asset])


def test_volume_has_one_level_and_is_free_of_its_unit(walk):
    bars = walk(400)
    grown = replace(bars, volume=bars.volume * np.linspace(1.0, 1e4, 400)[:, None])
    relative = relative_bars(grown)
    halves = relative.volume[100:250].mean(), relative.volume[250:].mean()
    assert halves[0] == pytest.approx(halves[1], rel=0.5)
    np.testing.assert_allclose(
        relative_bars(replace(bars, volume=bars.volume * 7.0)).volume, relative_bars(bars).volume
    )
    silent = relative_bars(replace(bars, volume=bars.volume * 0.0))
    assert (silent.volume[1:] == 0.0).all()


def test_the_same_generator_draws_the_same_path(walk):
    relative = relative_bars(walk(200, 2))
    first, second = (resample(relative, [Segment(0, 200)], 300, 32, rng_of(7)) for _ in range(2))
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(first[0].close, second[0].close)


def test_paths_have_the_prices_and_volumes_of_the_rows_that_may_be_drawn(walk):
    bars = walk(400, 2, seed=6)
    scale = np.array([3.0, 7e4])
    bars = replace(bars, **{name: getattr(bars, name) * scale for name in PRICES}, volume=bars.volume / scale)
    segments = [Segment(10, 120), Segment(200, 300)]
    drawn = np.r_[11:120, 201:300]
    levels = path_levels(relative_bars(bars), segments)
    np.testing.assert_array_equal(levels.price, np.median(bars.close[drawn], axis=0))
    means = np.array([bars.volume[max(0, row - 95) : row + 1].mean(axis=0) for row in drawn])
    np.testing.assert_allclose(levels.volume, np.median(means, axis=0))
    np.testing.assert_array_equal(path_levels(relative_bars(bars), [Segment(5, 7)]).price, bars.close[6])
    path, rows = resample_bars(bars, segments, 300, 20, rng_of(0))
    np.testing.assert_allclose(path.close[0], levels.price * bars.close[rows[0]] / bars.close[rows[0] - 1])
    own = np.array([bars.volume[row] / bars.volume[max(0, row - 95) : row + 1].mean(axis=0) for row in rows])
    np.testing.assert_allclose(path.volume, levels.volume * own)
    same, _ = resample(relative_bars(bars), segments, 300, 20, rng_of(0), levels=levels)
    np.testing.assert_array_equal(same.close, path.close)


def test_levels_are_read_from_the_rows_that_may_be_drawn_alone(walk):
    bars, segments = walk(300, 2, seed=8), [Segment(120, 200)]
    other = replace(bars, **{name: getattr(bars, name).copy() for name in (*PRICES, "volume")})
    for name in (*PRICES, "volume"):
        getattr(other, name)[200:] *= 50.0
        getattr(other, name)[:20] *= 50.0  # before the volume that the first row's mean reads
    for ours, theirs in zip(*(path_levels(relative_bars(some), segments) for some in (bars, other)), strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_an_asset_without_bars_in_the_rows_has_none_on_the_path(walk):
    bars = walk(100, 2)
    for column in bars.columns().values():
        column[:60, 1] = np.nan
    path, _ = resample_bars(bars, [Segment(0, 50)], 80, 8, rng_of(0))
    assert not path.present[:, 1].any()
    assert path.present[:, 0].all()
    levels = path_levels(relative_bars(bars), [Segment(0, 50)])
    assert (levels.price[1], levels.volume[1]) == (1.0, 0.0)


def test_prices_are_total_return_and_levels_are_as_traded(walk, traded):
    whole = walk(300, 1, seed=4)
    bars = traded(whole, {(100, 0): (10.0, 0.0), (200, 0): (1.0, 2.0)})
    segments = [Segment(0, 300)]
    path, rows = resample_bars(bars, segments, 400, 16, rng_of(5))
    smooth, same = resample_bars(whole, segments, 400, 16, rng_of(5))
    np.testing.assert_array_equal(rows, same)
    for name in PRICES:
        ratio = getattr(path, name) / getattr(smooth, name)
        np.testing.assert_allclose(ratio, np.median(bars.close[1:]) / np.median(whole.close[1:]))
    assert path.split is None
    assert path.dividend is None
    shares = np.where(np.arange(300) < 100, 1.0, 10.0)
    means = [shares[row] * whole.volume[max(0, row - 95) : row + 1].mean() for row in range(1, 300)]
    np.testing.assert_allclose(path_levels(relative_bars(bars), segments).volume, np.median(means))


def test_mirrored_blocks_are_mirrored_for_all_assets(walk):
    bars = walk(200, 2, seed=2)
    bars = replace(bars, funding=np.random.default_rng(1).random((200, 2)))
    relative = relative_bars(bars)
    path, rows = resample(relative, [Segment(0, 200)], 400, 10, rng_of(3), mirror_blocks=True)
    before = begun(bars, path)
    returns, source = np.log(path.close / before), np.log(bars.close[rows] / bars.close[rows - 1])
    signs = np.sign(returns / source)
    np.testing.assert_allclose(returns, signs * source, atol=1e-12)
    np.testing.assert_array_equal(signs[:, 0], signs[:, 1])
    assert {-1.0, 1.0} == set(signs[:, 0].tolist())
    changes = np.flatnonzero(np.diff(signs[:, 0]))
    assert (np.diff(rows)[changes] != 1).mean() > 0.9  # a sign changes only between blocks
    down = signs[:, 0] < 0
    highs = np.log(path.high / before)[down]
    np.testing.assert_allclose(highs, -np.log(bars.low[rows] / bars.close[rows - 1])[down], atol=1e-12)
    np.testing.assert_array_equal(path.funding, signs * bars.funding[rows])


def test_spreads_and_funding_are_copied(walk):
    bars = walk(200, 2, seed=2)
    bars = replace(
        bars, spread=np.random.default_rng(0).random((200, 2)), funding=np.random.default_rng(1).random((200, 2))
    )
    path, rows = resample_bars(bars, [Segment(0, 200)], 400, 10, rng_of(3))
    np.testing.assert_array_equal(path.spread, bars.spread[rows])
    np.testing.assert_array_equal(path.funding, bars.funding[rows])
    plain, _ = resample_bars(walk(200, 2), [Segment(0, 200)], 40, 10, rng_of(3))
    assert plain.spread is plain.funding is None


def test_segments_without_two_rows_are_refused(walk):
    with pytest.raises(ValueError, match="at least 2 rows"):
        resample_bars(walk(20), [Segment(3, 4)], 10, 4, rng_of(0))


def test_a_draw_takes_what_it_always_took_from_the_generator(walk):
    rng = rng_of(3)
    path, rows = resample_bars(walk(200, 2, seed=2), [Segment(0, 200)], 400, 10, rng)
    np.testing.assert_allclose(path.close[-1], [100.5826257, 136.2135875], rtol=1e-9)
    assert (rows[-1], rng.integers(1 << 60)) == (133, 814714761039911637)
