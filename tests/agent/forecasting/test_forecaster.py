"""Forecasts forward in time: nothing later than a block enters its forecasts."""

import numpy as np
import pytest

from planted.catalogue import MARKETS
from planted.paths import path_bars
from sentio_kedro.agent.forecasting.dictionary import Dictionary, usable
from sentio_kedro.agent.forecasting.experts import make_experts
from sentio_kedro.agent.forecasting.forecaster import (
    FIRST_FORECAST,
    FORWARD_BLOCKS,
    SegmentSample,
    fit_sleeve,
    forecast_rows,
    forward_blocks,
)
from sentio_kedro.agent.forecasting.inputs.history import ForecastInputs, forecast_inputs
from sentio_kedro.agent.forecasting.targets import Horizon, bar_targets, segment_targets
from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.bars import align_bars

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
    edge = len(ROWS) * 5 // FORWARD_BLOCKS  # place of the last block
    changed, noise = targets.copy(), np.random.default_rng(0).standard_normal(targets.shape)
    changed[ROWS[edge] :] = noise[ROWS[edge] :]
    dictionary = Dictionary.fit(inputs, ROWS)
    matrix = dictionary.matrix(inputs, ROWS)
    other = matrix.copy()
    other[edge:, :, :-2] += 1.0

    def forward(design: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        sample = SegmentSample(design, usable(inputs, ROWS), ROWS, wanted[:, :, 0], PARTS[0])
        return sample.forward(lambda: make_experts("directional", dictionary, PARTS[0]), PURGE)

    found = forward(matrix, targets)
    first = len(ROWS) * FIRST_FORECAST // FORWARD_BLOCKS
    assert not found[:first].any()
    assert found[first:].any(axis=(1, 2)).all()
    np.testing.assert_array_equal(forward(other, changed)[:edge], found[:edge])
    earlier = targets.copy()
    earlier[ROWS[0] : ROWS[first]] = noise[ROWS[0] : ROWS[first]]
    assert (forward(matrix, earlier)[first:edge] != found[first:edge]).any()


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


def test_a_signal_that_pays_after_sixteen_bars_and_not_in_the_next_is_found_and_not_waited_for(
    market: tuple[ForecastInputs, np.ndarray],
) -> None:
    inputs, _ = market
    parts = (Horizon(1, 1), Horizon(5, 16))
    wanted = np.random.default_rng(8).standard_normal((BARS, 1, 2))
    wanted[..., 1] += 0.5 * np.nan_to_num(inputs.values[..., inputs.names.index("momentum_48")])
    forecaster, found = fit_sleeve(inputs, wanted, parts, ROWS, 17, "directional")
    assert forecaster.supported == [False, True]
    later = np.arange(3_000, 3_500)
    forecasts = forecaster.predict(inputs, later)
    assert np.corrcoef(forecasts[:, 0, 1], wanted[later, 0, 1])[0, 1] > 0.2
    np.testing.assert_array_equal(forecasts[..., 0], forecasts[..., 1])  # per bar: the rule begins at once
    np.testing.assert_array_equal(found[..., 0], found[..., 1])


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
