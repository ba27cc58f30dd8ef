"""Inputs of forecasts: causal, exact from their lookback, and relative to the cross-section."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from planted.paths import planted_bars
from sentio_kedro.agent.forecasting.inputs.history import LOOKBACK, decayed_mean, forecast_inputs
from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars

ROWS = LOOKBACK + 40


@pytest.fixture(scope="module")
def bars() -> AlignedBars:
    rng = np.random.default_rng(0)
    frames = [
        planted_bars(0.004 * rng.standard_normal(ROWS), f"S{index}", volume=np.exp(rng.standard_normal(ROWS)))
        for index in range(3)
    ]
    return align_bars(pd.concat(frames), IngestionParameters())


def test_a_decayed_mean_is_that_of_its_window() -> None:
    values = np.random.default_rng(1).standard_normal(90)
    found = decayed_mean(values, 4.0)  # a window of 20
    weights = 0.5 ** (np.arange(20) / 4.0)
    for row in (0, 7, 19, 20, 89):
        window = values[max(0, row - 19) : row + 1][::-1]
        assert found[row] == pytest.approx((weights[: len(window)] * window).sum() / weights[: len(window)].sum())


def test_the_last_bars_alone_give_the_same_bits(bars: AlignedBars) -> None:
    whole, part = forecast_inputs(bars), forecast_inputs(bars.rows(slice(ROWS - LOOKBACK, None)))
    assert part.values[-1].tobytes() == whole.values[-1].tobytes()
    assert part.volatility[-1].tobytes() == whole.volatility[-1].tobytes()
    short = forecast_inputs(bars.rows(slice(ROWS - LOOKBACK + 1, None)))
    assert short.values[-1].tobytes() != whole.values[-1].tobytes()


def test_no_input_depends_on_later_bars(bars: AlignedBars) -> None:
    row = ROWS - 20
    later = {name: column.copy() for name, column in bars.columns().items()}
    for column in later.values():
        column[row + 1 :] *= 1.7
    changed = forecast_inputs(replace(bars, **later))
    np.testing.assert_array_equal(changed.values[: row + 1], forecast_inputs(bars).values[: row + 1])


def test_relative_inputs_sum_to_zero_and_means_are_equal(bars: AlignedBars) -> None:
    inputs = forecast_inputs(bars)
    column = {name: inputs.values[100:, :, place] for place, name in enumerate(inputs.names)}
    assert np.abs(column["relative_momentum_16"].sum(axis=1)).max() < 1e-5
    assert np.ptp(column["mean_return_0"], axis=1).max() < 1e-6
    assert column["relative_return_1"] + column["return_1"].mean(axis=1, keepdims=True) == pytest.approx(
        column["return_1"], abs=1e-5
    )
    alone = forecast_inputs(replace(bars, symbols=("S0",), **{n: c[:, :1] for n, c in bars.columns().items()}))
    assert not [name for name in alone.names if name.startswith(("relative", "mean"))]


def test_a_missing_bar_leaves_the_other_assets_and_later_bars_alone(bars: AlignedBars) -> None:
    hidden = np.zeros((ROWS, 3), bool)
    hidden[500, 1] = True
    inputs = forecast_inputs(bars.without(hidden))
    assert np.isnan(inputs.values[500, 1]).all()
    assert np.isfinite(inputs.values[501:, :]).all()
    returns = inputs.names.index("return_0")
    np.testing.assert_array_equal(inputs.values[:, 0, returns], forecast_inputs(bars).values[:, 0, returns])


def test_a_missing_bar_moves_no_other_assets_relative_price(bars: AlignedBars) -> None:
    scale = 10.0 ** np.arange(3)  # prices of coins differ by powers of ten
    dear = bars.map_columns(lambda column: column * scale)
    hidden = np.zeros((ROWS, 3), bool)
    hidden[ROWS - 30, 2] = True
    whole, part = forecast_inputs(dear), forecast_inputs(dear.without(hidden))
    change = np.abs(part.values - whole.values)[..., whole.names.index("relative_price")]
    assert np.nanmax(change[: ROWS - 30]) == 0.0
    assert change[ROWS - 30, :2].max() < 0.15  # a third of the return that is not known yet, in ten volatilities
    assert change[ROWS - 29 :].max() < 0.02


def test_an_asset_that_is_listed_late_brings_no_level_of_prices_to_the_others(bars: AlignedBars) -> None:
    dear = bars.map_columns(lambda column: column * 10.0 ** np.arange(3))
    unlisted = np.zeros((ROWS, 3), bool)
    unlisted[: ROWS - 30, 2] = True
    part = forecast_inputs(dear.without(unlisted))
    gaps = part.values[:, :2, part.names.index("relative_price")]
    assert np.abs(np.diff(gaps[ROWS - 40 :], axis=0)).max() < 0.5  # its level would push them to the bound of -8


def test_regimes_enter_as_the_expected_state(bars: AlignedBars) -> None:
    posterior = np.tile([0.2, 0.3, 0.5], (ROWS, 1))
    inputs = forecast_inputs(bars).with_regimes(posterior)
    assert inputs.values[5, :, inputs.names.index("regime")] == pytest.approx([1.3] * 3)


def test_places_are_those_of_the_clock(bars: AlignedBars) -> None:
    assert forecast_inputs(bars).place[:50].tolist() == [47, *range(48), 0]  # the first bar ends at midnight
    daily = planted_bars(0.01 * np.ones(9), minutes=1440)
    assert not forecast_inputs(align_bars(daily, IngestionParameters())).place.any()
