"""Inputs of the newest bar: the bits of the whole history, with halts, late listings, splits and dividends."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from planted.paths import planted_bars
from sentio_kedro.agent.forecasting.inputs.history import LOOKBACK, day_minutes, decayed_mean, forecast_inputs
from sentio_kedro.agent.forecasting.inputs.newest import NewestInputs, NewestWindows
from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.serving.rolling_bars import RollingBars

ROWS, ASSETS = LOOKBACK + 700, 3


@pytest.fixture(scope="module")
def bars() -> AlignedBars:
    rng = np.random.default_rng(0)
    frames = [
        planted_bars(0.004 * rng.standard_normal(ROWS), f"S{index}", volume=np.exp(rng.standard_normal(ROWS)))
        for index in range(ASSETS)
    ]
    whole = align_bars(pd.concat(frames), IngestionParameters())
    hidden = np.zeros((ROWS, ASSETS), bool)
    hidden[[900, 1_300, 1_310], 1] = True
    hidden[1_250:1_290, 0] = True
    hidden[:1_150, 2] = True  # listed after the first row that is followed
    return whole.without(hidden)


def acting(bars: AlignedBars) -> AlignedBars:
    """The bars with splits and dividends, before and after the first newest row, one at the last bar before a halt."""
    split, dividend = np.ones(bars.close.shape), np.zeros(bars.close.shape)
    split[[400, 1_249], 0], dividend[[700, 1_190, 1_291], 0], split[1_311, 1] = 2.0, 0.01, 0.5
    lacking = ~bars.present
    return replace(bars, split=np.where(lacking, np.nan, split), dividend=np.where(lacking, np.nan, dividend))


def rows_of(bars: AlignedBars, first: int, stop: int) -> list[tuple]:
    """Names, values, volatilities and places of the rows ``first`` to ``stop``, bar by bar."""
    rolling = RollingBars.of(bars.rows(slice(0, first)), 3, 2)
    series = NewestInputs.of(bars.rows(slice(0, first)), day_minutes(bars.timestamps))
    found = []
    for row in range(first, stop):
        bar = bars.rows(slice(row, row + 1))
        rolling = rolling.with_bar(bar)
        series, inputs = series.with_bar(rolling.by_asset, bar)
        found.append((inputs.names, inputs.values[0], inputs.volatility[0], inputs.place[0]))
    return found


@pytest.mark.parametrize("change", [lambda bars: bars, acting], ids=["plain", "acts"])
def test_the_newest_row_has_the_bits_of_the_whole_history(bars: AlignedBars, change) -> None:
    bars = change(bars)
    whole, first = forecast_inputs(bars), 1_140
    for row, (names, values, volatility, place) in enumerate(rows_of(bars, first, ROWS), first):
        assert names == whole.names and place == whole.place[row]
        np.testing.assert_array_equal(values, whole.values[row], err_msg=f"row {row}")
        np.testing.assert_array_equal(volatility, whole.volatility[row])
    assert np.isfinite(whole.values[-1]).all()  # of the late asset, too


def test_one_asset_alone_has_no_cross_section(bars: AlignedBars) -> None:
    alone = bars.assets(slice(1, 2))
    whole = forecast_inputs(alone)
    for row, (names, values, _, _) in enumerate(rows_of(alone, 1_200, 1_205), 1_200):
        assert names == whole.names
        np.testing.assert_array_equal(values, whole.values[row])


def test_means_of_short_series_are_those_of_the_bars_there_are() -> None:
    values = np.random.default_rng(1).standard_normal((1, 64))
    for count in (1, 5, 40, 64):
        known = (np.arange(64) >= 64 - count)[None].astype(float)
        mean = NewestWindows(known, np.zeros((1, 3))).mean(values * known, 10.0)
        assert mean[0] == decayed_mean(values[0, 64 - count :], 10.0)[-1]
