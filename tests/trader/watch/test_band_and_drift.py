"""The band holds what it says, and drift is found against limits that blocks of the train bars give."""

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import FeatureColumn
from sentio_kedro.evaluation.comparison.drift import stability_index
from sentio_kedro.trader.watch.band import LEAST_BARS, PROBABILITIES, band_of
from sentio_kedro.trader.watch.drift import DriftMeter, calibrate, watchable

RNG = np.random.default_rng


def test_the_band_is_that_of_sums_of_independent_returns():
    returns = np.expm1(RNG(0).normal(1e-4, 1e-3, 2_000))
    band = band_of(returns, mean_block=1.0)
    logs = np.log1p(returns)
    for bars in (50, 500, 2_000):
        deviation = logs.std() * np.sqrt(bars)
        for probability, normal in ((0.025, -1.96), (0.5, 0.0), (0.975, 1.96)):
            wanted = bars * logs.mean() + normal * deviation
            assert band.at(bars, probability) == pytest.approx(wanted, abs=0.12 * deviation)
    middle = band.at(500, 0.5)
    assert band.percentile(500, middle) == pytest.approx(0.5)
    assert band.percentile(500, -1.0) == PROBABILITIES[0]
    assert band.percentile(LEAST_BARS - 1, middle) is None
    assert band.percentile(2_001, middle) is None
    assert band.at(0, 0.5) is None


def test_a_record_that_is_looked_at_after_every_bar_leaves_the_band_in_one_of_two_hundred_cases():
    returns = np.expm1(RNG(1).normal(0.0, 1e-3, 1_000))
    band, rng, looks = band_of(returns, mean_block=1.0), RNG(2), range(LEAST_BARS, 1_000, 25)
    left, naive = 0, 0
    for _ in range(100):
        growth = np.cumsum(np.log1p(rng.choice(returns, 1_000)))
        furthest = max(band.distance(bars, growth[bars - 1]) for bars in looks)
        left, naive = left + (furthest > band.furthest), naive + (furthest > 1.0)
    assert left / 100 <= 0.02  # 0.5 % is meant
    assert naive / 100 >= 0.1  # a bound of 2.5 % at every bar
    assert band.distance(500, band.at(500, 0.025)) == pytest.approx(1.0)


def test_there_is_no_band_of_a_few_returns():
    assert band_of(np.zeros(LEAST_BARS - 1)) is None
    assert band_of(np.zeros(100), mean_block=1.0).percentile(60, 0.1) is None


def slow_series(rows, seed, phi=0.95, scale=1.0):
    noise = RNG(seed).normal(size=(rows, 2, 2)) * scale
    values = np.zeros_like(noise)
    for row in range(1, rows):
        values[row] = phi * values[row - 1] + noise[row]
    return values


def test_limits_hold_on_bars_like_the_train_bars_and_find_another_scale():
    names, train = ["slow", "other"], slow_series(12_000, 0)
    reference = calibrate(names, train, 500)
    assert max(reference.limits.values()) < 0.5
    unchanged = [reference.ratio(reference.indices(names, slow_series(500, seed))) for seed in range(1, 31)]
    assert np.mean(np.array(unchanged) > 1.0) <= 0.1
    changed = [reference.ratio(reference.indices(names, slow_series(500, seed, scale=2.0))) for seed in range(1, 11)]
    assert np.mean(np.array(changed) > 1.0) >= 0.9


def test_a_bound_that_is_not_calibrated_would_cry_wolf():
    names, train = ["slow", "other"], slow_series(12_000, 0, phi=0.995)
    reference = calibrate(names, train, 500)
    blocks = [slow_series(500, seed, phi=0.995) for seed in range(1, 11)]
    indices = [max(reference.indices(names, block).values()) for block in blocks]
    assert np.mean(np.array(indices) > 0.25) >= 0.9
    assert min(reference.limits.values()) > 0.25


def test_the_index_is_that_of_the_comparison_of_runs():
    train = RNG(0).normal(size=(5_000, 1, 1))
    reference, newest = calibrate(["x"], train, 200), RNG(1).normal(0.3, 1.0, size=(200, 1, 1))
    assert reference.indices(["x"], newest)["x"] == pytest.approx(stability_index(train, newest), rel=1e-12)


def test_too_few_train_bars_give_no_limits():
    assert calibrate(["x"], np.zeros((2_000, 1, 1)), 1_000) is None


def test_the_meter_computes_the_backtests_features_from_the_journals_bars():
    columns = [FeatureColumn(name="return_1", indicator="log_return", bars=1),
               FeatureColumn(name="day", indicator="day_of_week_sine", bars=1)]  # fmt: skip
    wanted = watchable(columns)
    assert [column.name for column in wanted] == ["return_1"]
    closes = 100.0 * np.exp(np.cumsum(RNG(3).normal(0.0, 1e-3, (4_000, 2)), axis=0))
    train = np.diff(np.log(closes), axis=0)[..., None]
    reference = calibrate(["return_1"], train, 100)

    def follow(scale):
        meter = DriftMeter(reference, wanted, ("A", "B"), None)
        prices = 100.0 * np.exp(np.cumsum(RNG(4).normal(0.0, 1e-3 * scale, (150, 2)), axis=0))
        stamps = pd.date_range("2026-01-01", periods=150, freq="min").strftime("%Y-%m-%dT%H:%M:%SZ")
        for stamp, row in zip(stamps, prices, strict=True):
            names = ("open", "high", "low", "close")
            meter.take(stamp, {s: {**dict.fromkeys(names, p), "volume": 1.0} for s, p in zip("AB", row, strict=True)})
            if meter.missing:
                assert meter.indices() == {}
        return meter.indices(), prices

    indices, prices = follow(1.0)
    newest = np.diff(np.log(prices), axis=0)[-100:, :, None]
    assert indices == pytest.approx(reference.indices(["return_1"], newest))
    assert reference.ratio(indices) < 1.0
    assert reference.ratio(follow(3.0)[0]) > 1.0
