"""Forecasts forward in time: nothing later than a block enters its forecasts."""

import numpy as np
import pytest

from planted.catalogue import MARKETS
from planted.paths import path_bars
from sentio_kedro.agent.forecasting.dictionary import Dictionary
from sentio_kedro.agent.forecasting.forecaster import (
    FIRST_FORECAST,
    FORWARD_BLOCKS,
    fit_sleeve,
    forecast_rows,
    forward_blocks,
)
from sentio_kedro.agent.forecasting.inputs import ForecastInputs, forecast_inputs
from sentio_kedro.agent.forecasting.targets import Horizon, bar_targets, segment_targets
from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.bars import align_bars

PARTS = (Horizon(1, 1), Horizon(2, 4))
PURGE = 5
BARS = 3_600
ROWS = np.arange(600, 3_000)


@pytest.fixture(scope="module")
def market() -> tuple[ForecastInputs, np.ndarray]:
    bars = align_bars(path_bars(MARKETS["reversal"].law.draw(BARS, 1)), IngestionParameters())
    inputs = forecast_inputs(bars)
    return inputs, segment_targets(bar_targets(bars, inputs.volatility, 0), PARTS, "directional", ROWS)


def test_every_block_is_forecast_from_purged_earlier_rows() -> None:
    rows = np.concatenate([np.arange(0, 60), np.arange(100, 160)])
    blocks = list(forward_blocks(rows, PURGE))
    assert len(blocks) == FORWARD_BLOCKS - FIRST_FORECAST
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), forecast_rows(rows))
    for before, block in blocks:
        assert before[0] == 0
        assert before[-1] + PURGE <= block[0]
    assert blocks[0][0][-1] == 35  # the block begins at row 40
    assert blocks[1][0][-1] == 59  # the gap before row 100 is longer than the purge


def test_later_targets_and_inputs_change_no_forecast_of_earlier_blocks(
    market: tuple[ForecastInputs, np.ndarray],
) -> None:
    inputs, targets = market
    forecaster, found = fit_sleeve(inputs, targets, PARTS, ROWS, PURGE, "directional")
    assert forecaster.evidence[0].combined_t > 2.5
    assert not found[: forecast_rows(ROWS)[0]].any()
    assert not found[ROWS[-1] + 1 :].any()
    edge = int(ROWS[len(ROWS) * 5 // FORWARD_BLOCKS])  # first row of the last block
    changed = targets.copy()
    changed[edge:] = np.random.default_rng(0).standard_normal(changed[edge:].shape)
    again, later = fit_sleeve(inputs, changed, PARTS, ROWS, PURGE, "directional")
    scale = later[ROWS[0] : edge, :, 0].std() / found[ROWS[0] : edge, :, 0].std()
    # weights and slopes belong to all blocks, the experts' forecasts of a block to earlier rows alone
    if len(np.flatnonzero(forecaster.evidence[0].weights)) == 1 == len(np.flatnonzero(again.evidence[0].weights)):
        assert later[:edge, :, 0] == pytest.approx(scale * found[:edge, :, 0], rel=1e-6)


def test_forecasts_of_experts_are_out_of_fold(market: tuple[ForecastInputs, np.ndarray]) -> None:
    """In-sample forecasts of trees explain noise; forward ones do not."""
    inputs, targets = market
    noise = np.random.default_rng(5).standard_normal(targets.shape)
    noise[~np.isfinite(targets)] = np.nan
    forecaster, found = fit_sleeve(inputs, noise, PARTS, ROWS, PURGE, "directional")
    matrix = forecaster.dictionary.matrix(inputs, ROWS)[:, 0]
    trees = forecaster.experts[0]["trees"].predict(matrix)
    place = list(forecaster.experts[0]).index("trees")
    assert np.corrcoef(trees, noise[ROWS, 0, 0])[0, 1] > 0.1
    assert abs(forecaster.evidence[0].correlation[place]) < 0.07
    assert not forecaster.supported[0]
    assert not found.any()


def test_prediction_weighs_the_experts_and_is_flat_where_inputs_are_unknown(
    market: tuple[ForecastInputs, np.ndarray],
) -> None:
    inputs, targets = market
    forecaster, _ = fit_sleeve(inputs, targets, PARTS, ROWS, PURGE, "directional")
    rows = np.arange(3_100, 3_200)
    matrix = forecaster.dictionary.matrix(inputs, rows)[:, 0]
    evidence, experts = forecaster.evidence[0], forecaster.experts[0].values()
    expected = sum(w * e.predict(matrix) for w, e in zip(evidence.weights, experts, strict=True)) * evidence.slopes[0]
    assert forecaster.predict(inputs, rows)[:, 0, 0] == pytest.approx(expected)
    assert not forecaster.predict(inputs, np.arange(3))[0].any()


def test_the_dictionary_is_scaled_on_its_rows_alone(market: tuple[ForecastInputs, np.ndarray]) -> None:
    inputs, _ = market
    fitted = Dictionary.fit(inputs, ROWS)
    matrix = fitted.matrix(inputs, ROWS)[:, 0]
    plain = matrix[:, : fitted.plain]
    varied = plain.std(axis=0) > 0.0
    assert np.abs(plain[:, varied].mean(axis=0)).max() < 0.1  # clipped values move it
    assert matrix.shape[1] == len(fitted.names)
    assert "return_0 x volume_48" in fitted.names
    later = ForecastInputs(
        inputs.names, np.where(np.arange(BARS)[:, None, None] > 3_000, 9.0, inputs.values), *inputs[2:]
    )
    np.testing.assert_array_equal(Dictionary.fit(later, ROWS).mean, fitted.mean)
    assert matrix[:, -2].max() == 47
