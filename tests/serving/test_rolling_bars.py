"""Rolling bars show of the newest bars what the whole history shows."""

import numpy as np
import pytest

from sentio_kedro.config import FeatureColumn
from sentio_kedro.config.market import OWN_INDICATORS, SESSION_PRICE_INDICATORS
from sentio_kedro.market.indicators import (
    INDICATORS,
    compute_features,
    longest_lookback,
    newest_features,
    with_sessions,
)
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import bar_times
from sentio_kedro.market.regimes import market_return
from sentio_kedro.serving.rolling_bars import RollingBars, appended, missing_rows, newest_rows

BARS = 260
PRICES = ("open", "high", "low", "close", "volume")
COLUMNS = [
    FeatureColumn(
        name=name,
        indicator=name,
        bars=60 if name in SESSION_PRICE_INDICATORS else 4,  # a day has 48
        column="vix" if name in OWN_INDICATORS else None,
    )
    for name in INDICATORS
]
OWN = longest_lookback(COLUMNS)


def halting_bars() -> AlignedBars:
    """Two assets; the second one splits, pays, and is halted three times, once for longer than any look-back."""
    rng = np.random.default_rng(1)
    close = 40.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((BARS, 2)), axis=0))
    opened = close * np.exp(0.003 * rng.standard_normal((BARS, 2)))
    high, low = np.maximum(opened, close) * 1.002, np.minimum(opened, close) / 1.003
    timestamps = np.datetime64("2020-03-01T00:30", "ns") + np.arange(BARS) * np.timedelta64(30, "m")
    split, dividend = np.ones((BARS, 2)), np.zeros((BARS, 2))
    split[152, 1], dividend[201, 1], dividend[150, 1] = 3.0, 0.5, 0.7
    volume = 1_000.0 * np.exp(rng.standard_normal((BARS, 2)))
    vix = 20.0 + np.cumsum(rng.standard_normal((BARS, 2)), axis=0)
    prices = (opened, high, low, close)
    bars = AlignedBars(timestamps, ("AAA", "BBB"), *prices, volume, dividend, split, extra={"vix": vix})
    hidden = np.zeros((BARS, 2), dtype=bool)
    hidden[130:133, 1] = hidden[160:200, 1] = hidden[230:232, 1] = True
    return bars.without(hidden)


@pytest.fixture(scope="module", name="bars")
def bars_fixture() -> AlignedBars:
    return halting_bars()


def test_features_of_the_newest_bar_are_those_of_the_whole_history(bars: AlignedBars) -> None:
    whole, bars = compute_features(bars, COLUMNS), with_sessions(bars, bar_times(bars.timestamps))
    first = 125
    rolling = RollingBars.of(bars.rows(slice(0, first)), 20, OWN)
    values = whole[first - 1]
    for row in range(first, BARS):
        new = bars.rows(slice(row, row + 1))
        rolling = rolling.with_bar(new)
        values = newest_features(rolling.by_asset, COLUMNS, new.present[0], bar_times(new.timestamps), values)
        np.testing.assert_allclose(values, whole[row], rtol=0, atol=1e-6)
    assert np.isfinite(values).all()
    assert len(rolling.grid.timestamps) == 20
    assert len(rolling.by_asset.timestamps) == OWN


def test_an_asset_with_too_few_bars_has_no_features_but_the_calendar(bars: AlignedBars) -> None:
    short = RollingBars.of(bars.rows(slice(0, 6)), 20, OWN)
    before = np.full((2, len(COLUMNS)), np.nan)
    values = newest_features(short.by_asset, COLUMNS, np.ones(2, dtype=bool), bar_times(bars.timestamps[5:6]), before)
    np.testing.assert_array_equal(
        np.isfinite(values), np.isfinite(compute_features(bars.rows(slice(0, 6)), COLUMNS)[5])
    )


def test_the_first_row_shows_the_last_price_of_an_asset_that_is_halted_there(bars: AlignedBars) -> None:
    kept = newest_rows(bars.rows(slice(0, 190)), 20)
    assert not kept.present[1:, 1].any()
    assert kept.close[0].tolist() == bars.held_close()[170].tolist()
    assert kept.split is not None
    assert kept.split[0].tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(newest_rows(bars, BARS).close, bars.close)


def test_the_newest_return_of_the_market_needs_two_rows_however_long_an_asset_was_halted(bars: AlignedBars) -> None:
    market_returns = market_return(bars)
    for row in (150, 152, 170, 200, 201, 232):
        assert market_return(newest_rows(bars.rows(slice(0, row + 1)), 2))[-1] == pytest.approx(
            market_returns[row], abs=1e-12
        )


def test_a_column_that_only_new_bars_have_was_neutral_before(bars: AlignedBars) -> None:
    first, last = bars.rows(slice(0, 200)), bars.rows(slice(200, 202))
    without = AlignedBars(first.timestamps, first.symbols, *(getattr(first, name) for name in PRICES))
    both = appended(without, last)
    assert both.dividend is not None
    assert np.nansum(both.dividend[:200]) == 0.0
    assert both.dividend[201, 1] == 0.5
    np.testing.assert_array_equal(np.isfinite(both.dividend), bars.present[:202])


def test_missing_rows_have_no_bars(bars: AlignedBars) -> None:
    rows = missing_rows(bars, bars.timestamps[-2:] + np.timedelta64(1, "D"))
    assert not rows.present.any()
    assert rows.columns().keys() == bars.columns().keys()
