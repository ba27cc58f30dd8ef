"""Feature columns: causal, local to their asset, free of scale, finite, reproduced by their lookback."""

from dataclasses import fields, replace

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import FeatureColumn
from sentio_kedro.config.market import OWN_INDICATORS, SESSION_PRICE_INDICATORS
from sentio_kedro.market import formulas, indicators, large_arrays
from sentio_kedro.market.indicators import INDICATORS, compute_features, longest_lookback, lookback, newest_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import bar_times

HORIZONS = {
    "log_return": (1, 4, 48),
    "volatility": (1, 48),
    "range_volatility": (1, 48),
    "volume_surprise": (48,),
    "relative_strength": (1, 14),
    "trend_strength": (1, 14),
    "moving_average_gap": (1, 48),
    "convergence_divergence": (1, 12),
    "band_position": (1, 20),
    "return_rank": (1, 48),
}
BROUGHT = OWN_INDICATORS | SESSION_PRICE_INDICATORS  # tried in `test_own_columns` and `test_session_features`
CALENDAR = [name for name, indicator in INDICATORS.items() if indicator.calendar is not None]


def column(indicator, bars=1, lookback=None):
    return FeatureColumn(name=f"{indicator}_{bars}", indicator=indicator, bars=bars, lookback=lookback)


COLUMNS = [column(name, bars) for name, horizons in HORIZONS.items() for bars in horizons]
COLUMNS += [column(name) for name in CALENDAR]
LOCAL = [column_ for column_ in COLUMNS if not INDICATORS[column_.indicator].cross_asset]
VALUES = ("open", "high", "low", "close", "volume")


def rows_of(bars, rows):
    return AlignedBars(bars.timestamps[rows], bars.symbols, *(getattr(bars, name)[rows] for name in VALUES))


def of_prices(close, volume=1.0):
    close = np.asarray(close, dtype=float).reshape(len(close), -1)
    opened = np.vstack([close[:1], close[:-1]])
    timestamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(len(close)) * np.timedelta64(30, "m")
    values = (opened, np.maximum(opened, close), np.minimum(opened, close), close, np.full(close.shape, volume))
    return AlignedBars(timestamps, tuple("ABCDEFGH"[: close.shape[1]]), *values)


def test_every_indicator_is_tried():
    assert set(HORIZONS) | set(CALENDAR) | BROUGHT == set(INDICATORS)
    assert [field.name for field in fields(INDICATORS["volatility"])][:3] == ["function", "lookback", "cross_asset"]


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(330, 500), cut=st.integers(1, 500), seed=st.integers(0, 99), missing=st.sampled_from([0, 0.1]))
def test_features_do_not_read_the_future(walk, rows, cut, seed, missing):
    bars = walk(rows, 3, seed, missing=missing)
    cut = min(cut, rows)
    whole = compute_features(bars, COLUMNS)
    np.testing.assert_allclose(
        compute_features(rows_of(bars, slice(0, cut)), COLUMNS), whole[:cut], rtol=1e-12, atol=1e-14
    )


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(4)), kept=st.integers(1, 4), seed=st.integers(0, 99))
def test_features_of_a_symbol_ignore_other_symbols(walk, order, kept, seed):
    bars = walk(400, 4, seed, missing=0.1)
    chosen = sorted(order[:kept])
    fewer = AlignedBars(
        bars.timestamps,
        tuple(bars.symbols[asset] for asset in chosen),
        *(getattr(bars, name)[:, chosen] for name in VALUES),
    )
    np.testing.assert_array_equal(compute_features(fewer, LOCAL), compute_features(bars, LOCAL)[:, chosen])


@pytest.mark.parametrize("name", HORIZONS)
@pytest.mark.parametrize("volatility", [1e-4, 0.05])
def test_features_do_not_change_when_past_prices_are_multiplied(walk, name, volatility):
    bars = walk(420, 2, seed=3, volatility=volatility)
    for factor in (0.5, 1e-13, 3e4):
        scaled = replace(bars, **{price: getattr(bars, price) * factor for price in VALUES[:4]})
        columns = [column_ for column_ in COLUMNS if column_.indicator == name]
        np.testing.assert_allclose(compute_features(scaled, columns), compute_features(bars, columns), atol=1e-8)


@pytest.mark.parametrize("column_", COLUMNS, ids=lambda column_: column_.name)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_last_lookback_bars_alone_give_the_same_value(walk, column_, seed):
    bars = walk(1500, 2, seed)
    whole = compute_features(bars, [column_])[:, :, 0]
    span = lookback(column_)
    assert np.isnan(whole[: span - 1]).all()
    assert np.isfinite(whole[span - 1 :]).all()
    for last in range(span - 1, 1500, 131):
        window = compute_features(rows_of(bars, slice(last - span + 1, last + 1)), [column_])[-1, :, 0]
        np.testing.assert_allclose(window, whole[last], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", HORIZONS)
@pytest.mark.parametrize("volume", [0.0, 1.0])
def test_features_stay_finite_when_prices_stand_still(name, volume):
    moving = 100.0 * np.exp(np.cumsum(0.01 * np.random.default_rng(0).standard_normal(600)))
    close = np.concatenate([moving, np.full(600, moving[-1]), moving[-1] * moving / moving[0], [1e-3, 1e6] * 20])
    columns = [column_ for column_ in COLUMNS if column_.indicator == name]
    features = compute_features(of_prices(np.column_stack([close, close[::-1]]), volume), columns)
    assert np.isfinite(features[longest_lookback(columns) - 1 :]).all()
    always = compute_features(of_prices(np.full(500, 3.0), volume), columns)
    assert np.isfinite(always[longest_lookback(columns) - 1 :]).all()


@pytest.mark.parametrize("column_", [c for c in LOCAL if c.indicator not in CALENDAR], ids=lambda column_: column_.name)
def test_one_missing_bar_does_not_poison_what_follows(walk, column_):
    bars = walk(600, 2, seed=5)
    holed = replace(bars, **{name: getattr(bars, name).copy() for name in VALUES})
    for name in VALUES:
        getattr(holed, name)[400, 0] = np.nan
    features = compute_features(holed, [column_])[:, :, 0]
    own = np.delete(np.arange(600), 400)
    alone = compute_features(rows_of(bars, own), [column_])[:, 0, 0]
    np.testing.assert_array_equal(features[own, 0], alone)
    assert features[400, 0] == features[399, 0]  # the last known value is held
    np.testing.assert_array_equal(features[:, 1], compute_features(bars, [column_])[:, 1, 0])


def test_a_late_symbol_is_nan_until_it_has_its_own_bars(walk):
    bars = walk(50, 2)
    for name in VALUES:
        getattr(bars, name)[:20, 1] = np.nan
    features = compute_features(bars, [column("log_return", 4)])[:, 1, 0]
    assert np.isnan(features[:24]).all()
    assert np.isfinite(features[24:]).all()


def test_pieces_of_rows_and_arrays_on_file_change_no_bit(walk, monkeypatch):
    bars = walk(700, 3, seed=4, missing=0.1)
    expected = compute_features(bars, COLUMNS)
    monkeypatch.setattr(formulas, "PIECE", 13)
    monkeypatch.setattr(indicators, "RANKED_ROWS", 7)
    monkeypatch.setattr(large_arrays, "LARGEST_IN_MEMORY", 0)
    features = compute_features(bars, COLUMNS)
    assert isinstance(features, np.memmap)
    np.testing.assert_array_equal(features, expected)


def test_log_return_and_rank_exactly():
    bars = of_prices([[1.0, 1.0, 1.0], [2.0, 1.0, 0.5], [2.0, 3.0, 0.5]])
    features = compute_features(bars, [column("log_return"), column("return_rank")])
    np.testing.assert_allclose(features[1:, :, 0], np.log([[2.0, 1.0, 0.5], [1.0, 3.0, 1.0]]))
    np.testing.assert_array_equal(features[1:, :, 1], [[1.0, 0.0, -1.0], [-0.5, 1.0, -0.5]])


def test_rank_counts_present_assets_alone():
    values = np.array([[3.0, np.nan, 1.0], [np.nan, 2.0, np.nan], [np.nan, np.nan, np.nan]])
    nan = np.nan
    np.testing.assert_array_equal(formulas.ranks(values), [[1.0, nan, -1.0], [nan, 0.0, nan], [nan, nan, nan]])


def test_relative_strength_is_the_rsi(walk):
    bars = walk(300)
    rsi = talib.RSI(bars.close[:, 0], 14)
    feature = compute_features(bars, [column("relative_strength", 14)])[:, 0, 0]
    known = np.isfinite(feature)
    assert known.sum() == 300 - lookback(column("relative_strength", 14)) + 1
    np.testing.assert_allclose(feature[known], rsi[known] / 50 - 1, atol=1e-12)
    flat = compute_features(of_prices(np.full(400, 2.0)), [column("relative_strength", 14)])
    assert (flat[-1] == 0.0).all()


def test_trend_strength_has_the_sign_of_the_trend():
    rise = of_prices(1.01 ** np.arange(400))
    fall = of_prices(0.99 ** np.arange(400))
    features = [compute_features(bars, [column("trend_strength", 14)])[-1, 0, 0] for bars in (rise, fall)]
    assert features == pytest.approx([1.0, -1.0])


def test_window_formulas_equal_slow_ones(walk):
    bars = walk(60, seed=8)
    close, high, low, volume = (getattr(bars, name)[:, 0] for name in ("close", "high", "low", "volume"))
    names = ("volatility", "range_volatility", "volume_surprise", "moving_average_gap", "band_position")
    got = compute_features(bars, [column(name, 10) for name in names])[-1, 0]
    market_returns = np.diff(np.log(close))[-10:]
    deviation = np.sqrt((market_returns**2).mean())
    expected = [
        np.log(deviation),
        0.5 * np.log((np.log(high / low)[-10:] ** 2).mean() / (4 * np.log(2))),
        np.log((volume[-1] / volume[-10:].mean() + 1e-3) / 1.001),
        np.log(close[-1] / close[-10:].mean()) / (deviation * np.sqrt(10)),
        (close[-1] - close[-10:].mean()) / close[-10:].std(),
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_convergence_divergence_is_the_macd_histogram(walk):
    bars = walk(400)
    close = bars.close[:, 0]
    histogram = talib.MACD(close, 12, 26, 9)[2][-1]
    deviation = np.sqrt((np.diff(np.log(close))[-26:] ** 2).mean())
    got = compute_features(bars, [column("convergence_divergence", 12)])[-1, 0, 0]
    assert got == pytest.approx(histogram / (close[-1] * deviation), rel=1e-9)


def test_calendar_columns_read_the_bar_end_or_the_given_stamps():
    bars = of_prices(np.ones(2))
    columns = [column(name) for name in CALENDAR if "_of_" in name]
    timestamps = np.array(["2024-01-01T06:00", "2024-01-03T12:00"], dtype="datetime64[ns]")  # a Monday and a Wednesday
    features = compute_features(bars, columns, bar_times(timestamps))[:, 0]
    angles = 2 * np.pi * np.array([[0.25, 0.25 / 7], [0.5, 2.5 / 7]])
    expected = [[np.sin(day), np.cos(day), np.sin(week), np.cos(week)] for day, week in angles]
    np.testing.assert_allclose(features, expected, atol=1e-12)
    np.testing.assert_array_equal(
        compute_features(bars, columns), compute_features(bars, columns, bar_times(bars.timestamps))
    )


def test_at_the_newest_bar_windows_give_the_bits_of_the_whole_series(walk):
    bars = walk(500)
    recursive = ("relative_strength", "trend_strength", "convergence_divergence")
    exact = [column_.indicator not in recursive for column_ in COLUMNS]
    whole, rows = compute_features(bars, COLUMNS), longest_lookback(COLUMNS)
    for last in (rows - 1, 400, 499):
        own = bars.rows(slice(last + 1 - rows, last + 1))
        everyone = np.ones(len(bars.symbols), dtype=bool)
        newest = newest_features(own, COLUMNS, everyone, bar_times(bars.timestamps).at(last), whole[last - 1])
        np.testing.assert_array_equal(newest[:, exact], whole[last][:, exact])


def test_a_lookback_that_is_too_short_is_refused_and_a_longer_one_kept(walk):
    assert lookback(column("log_return", 4, lookback=9)) == 9
    features = compute_features(walk(12), [column("log_return", 4, lookback=9)])[:, 0, 0]
    assert np.isnan(features[:8]).all()
    assert np.isfinite(features[8:]).all()
    short = [column("log_return", 4, lookback=3), column("relative_strength", 14, lookback=15)]
    with pytest.raises(ValueError, match=r"(?s)log_return_4.*at least 5.*was 3.*relative_strength_14.*was 15"):
        longest_lookback(short)
    assert longest_lookback([column("log_return", 4), column("volatility", 9)]) == 10
