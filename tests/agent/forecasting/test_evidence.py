"""Evidence: what passes, what it shrinks to, and what borrows from it."""

import numpy as np
import pytest

from sentio_kedro.agent.forecasting.evidence import Evidence, asset_slopes, block_length, filled, supported, weigh
from sentio_kedro.agent.forecasting.experts import block_t
from sentio_kedro.agent.forecasting.targets import Horizon

ROWS = 6_000
BLOCKS = np.arange(ROWS) // 50
ASSETS = np.arange(ROWS) % 2


def draws(seed: int, strength: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts of two experts, of which the second is noise, and targets."""
    rng = np.random.default_rng(seed)
    forecasts = strength * rng.standard_normal((ROWS, 2))
    return forecasts, forecasts[:, 0] + rng.standard_normal(ROWS)


def test_an_expert_with_evidence_gets_its_slope_shrunk_and_noise_gets_nothing() -> None:
    forecasts, targets = draws(0)
    found = weigh(forecasts, targets, BLOCKS, ASSETS, 2)
    slope = (forecasts[:, 0] @ targets) / (forecasts[:, 0] ** 2).sum()
    t = block_t(slope * forecasts[:, 0] * targets, BLOCKS)
    assert found.t[0] > 5.0
    assert found.t[1] < 2.0
    assert found.combined_t == pytest.approx(t)
    assert found.weights == pytest.approx([slope * (1.0 - t**-2), 0.0])
    assert found.correlation[0] == pytest.approx(np.corrcoef(forecasts[:, 0], targets)[0, 1], abs=0.02)


def test_forecasts_without_evidence_weigh_nothing() -> None:
    opened = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = weigh(rng.standard_normal((ROWS, 2)), rng.standard_normal(ROWS), BLOCKS, ASSETS, 2)
        opened += bool(found.weights.any())
    assert opened <= 2
    forecasts, targets = draws(0)
    assert not weigh(-forecasts, targets, BLOCKS, ASSETS, 2).weights.any()  # a forecast that errs is not turned round
    few = weigh(forecasts[:550], targets[:550] + 9 * forecasts[:550, 0], BLOCKS[:550], ASSETS[:550], 2)
    assert not few.weights.any()  # eleven blocks are no evidence


def test_clustered_products_need_the_block_t() -> None:
    """The same products in one block after the other are evidence; all in a single block they are not."""
    forecasts = np.ones((ROWS, 1))
    targets = 0.02 * np.random.default_rng(0).standard_normal(ROWS)
    targets[:50] += 1.0
    naive = targets.mean() / targets.std() * ROWS**0.5
    assert naive > 5.0
    assert not weigh(forecasts, targets, BLOCKS, ASSETS, 2).weights.any()


def test_an_asset_without_a_signal_is_left_alone() -> None:
    rng = np.random.default_rng(1)
    forecasts = rng.standard_normal(ROWS)
    targets = np.where(ASSETS == 1, 0.4, 0.0) * forecasts + rng.standard_normal(ROWS)
    slopes = asset_slopes(forecasts, targets, BLOCKS, ASSETS, 2)
    assert slopes == pytest.approx([0.0, 0.4], abs=0.06)
    alike = asset_slopes(forecasts, 0.3 * forecasts + rng.standard_normal(ROWS), BLOCKS, ASSETS, 3)
    assert alike == pytest.approx([0.3] * 3, abs=0.06)  # the third asset has no examples and takes the pooled slope
    assert asset_slopes(forecasts, -targets, BLOCKS, ASSETS, 2) == pytest.approx([0.0, 0.0], abs=0.02)
    assert asset_slopes(forecasts, 9 * forecasts, BLOCKS, ASSETS, 2) == pytest.approx([2.0, 2.0])


def test_weak_segments_count_beside_a_strong_one_alone() -> None:
    def kept(*ts: float) -> list[bool]:
        parts = [Evidence(np.array([t]), np.zeros(1), t, np.ones(1), np.ones(1)) for t in ts]
        return [bool(part.weights.any()) for part in supported(parts)]

    assert kept(2.1, 2.4, 2.5) == [False, False, False]
    assert kept(2.1, 2.4, 2.6) == [True, True, True]


def test_blocks_are_twice_as_long_as_the_segment_reaches() -> None:
    assert block_length(600, Horizon(1, 1)) == 10
    assert block_length(6_000, Horizon(1, 1)) == 50
    assert block_length(60_000, Horizon(1, 1)) == 96
    assert block_length(6_000, Horizon(49, 192)) == 384


def test_segments_before_the_first_with_evidence_borrow_its_forecast_per_bar() -> None:
    parts = (Horizon(1, 1), Horizon(2, 5), Horizon(6, 14))
    sums = np.array([[0.0, 4.0, 9.0]])
    assert filled(sums, [False, True, True], parts)[0].tolist() == [2.0, 2.0, 3.0]
    assert filled(sums, [True, True, True], parts)[0].tolist() == [0.0, 2.0, 3.0]
    assert filled(np.array([[0.0, 4.0, 0.0]]), [False, True, False], parts)[0].tolist() == [2.0, 2.0, 0.0]
    assert not filled(np.zeros((1, 3)), [False] * 3, parts).any()
