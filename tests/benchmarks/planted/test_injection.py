"""A slow signal planted into bars, bars without a signal of their own, and what the true forecasts earn."""

from dataclasses import replace

import numpy as np
import pytest

from planted.injection import PERSISTENCE, Oracle, draw_signal, mirrored, planted
from planted.laws import VOLUME_SWING
from planted.paths import PLAIN_VOLUME, PlantedPath, autoregression, path_bars
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.config import CostParameters, IngestionParameters, TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Segment


def random_bars(rows: int, assets: int = 2, phi: float = 0.0) -> AlignedBars:
    noise = np.random.default_rng(3).standard_normal((rows, assets)) * 0.004
    returns = np.stack([autoregression(own, phi) for own in noise.T], axis=-1)
    return align_bars(path_bars(PlantedPath.of(returns, np.zeros_like(returns))), IngestionParameters())


def test_the_signal_is_a_slow_autoregression_of_deviation_one_for_each_asset() -> None:
    signal = draw_signal(200_000, 2, 0)
    assert signal.std(axis=0) == pytest.approx([1.0, 1.0], abs=0.06)
    assert (signal[1:] * signal[:-1]).mean(axis=0) == pytest.approx([PERSISTENCE] * 2, abs=0.1)
    assert abs(np.corrcoef(signal.T)[0, 1]) < 0.1
    np.testing.assert_array_equal(signal[:, 0], draw_signal(200_000, 2, 0)[:, 0])


def test_a_mean_comes_between_the_two_opens_after_its_row_and_bars_keep_their_shape() -> None:
    bars, signal = random_bars(50), draw_signal(50, 2, 1)
    means = 0.01 * signal
    found = planted(bars, signal, means)
    gained = np.log(found.open[2:] / found.open[1:-1]) - np.log(bars.open[2:] / bars.open[1:-1])
    np.testing.assert_allclose(gained, means[:-2], atol=1e-12)
    for name in ("high", "low", "close"):
        np.testing.assert_allclose(getattr(found, name) / found.open, getattr(bars, name) / bars.open)
    np.testing.assert_allclose(np.log(found.volume / PLAIN_VOLUME) / VOLUME_SWING, signal)


def test_without_means_only_the_volume_changes_and_a_missing_bar_stays_missing() -> None:
    bars, signal = random_bars(50).without(np.arange(50)[:, None] == 7), draw_signal(50, 2, 1)
    found = planted(bars, signal, np.zeros_like(signal))
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(found, name), getattr(bars, name))
    assert np.isnan(found.volume[7]).all()
    assert np.isfinite(np.delete(found.volume, 7, axis=0)).all()


def test_mirrored_bars_keep_sizes_and_correlations_but_not_what_returns_predict() -> None:
    bars = random_bars(20_000, phi=0.3)
    found = mirrored(bars, 0)
    before, after = (np.diff(np.log(own.close), axis=0) for own in (bars, found))
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-9)
    np.testing.assert_allclose(after[:, 0] * after[:, 1], before[:, 0] * before[:, 1], atol=1e-9)
    assert np.corrcoef(before[1:, 0], before[:-1, 0])[0, 1] > 0.25
    assert abs(np.corrcoef(after[1:, 0], after[:-1, 0])[0, 1]) < 0.03
    width, own_width = (np.log(own.high / own.low) for own in (found, bars))
    np.testing.assert_allclose(width, own_width, atol=1e-9)
    assert (found.high >= np.maximum(found.open, found.close) * (1 - 1e-12)).all()
    assert (found.low <= np.minimum(found.open, found.close) * (1 + 1e-12)).all()


def test_a_mirrored_bar_after_a_gap_is_measured_from_the_last_close() -> None:
    bars = random_bars(50).without(np.arange(50)[:, None] == 7)
    found = mirrored(bars, 0)
    assert np.isnan(found.close[7]).all()
    np.testing.assert_allclose(
        np.abs(np.log(found.close[8] / found.close[6])), np.abs(np.log(bars.close[8] / bars.close[6])), atol=1e-12
    )


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    bars, rows = random_bars(12_000), 12_000
    trading = TradingParameters(costs=CostParameters(commission_bps=1.0, half_spread_bps=0.0))
    market = ForecastMarket.of(bars, trading, 17_520.0)
    return Oracle(market, draw_signal(rows, 2, 5), Segment(0, 6_000), (Segment(6_000, rows),), "directional", 1.0)


def test_the_strength_makes_the_sharpe_ratio(oracle: Oracle) -> None:
    strength = oracle.strength_for(10.0)
    assert oracle.sharpe(strength) == pytest.approx(10.0, rel=0.02)
    expected, realised = oracle.profits(strength)
    assert realised.sum() == pytest.approx(expected.sum(), rel=0.4)  # the luck of 6,000 bars


def test_a_neutral_oracle_earns_nothing_of_a_signal_that_all_assets_share(oracle: Oracle) -> None:
    shared = replace(oracle, signal=np.repeat(oracle.signal[:, :1], 2, axis=1), sleeve="relative")
    assert not shared.profits(0.1)[0].any()
    assert replace(oracle, sleeve="relative").profits(0.1)[0].sum() > 0.0
