"""Targets: sums over disjoint segments, exact, and what each sleeve subtracts."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from planted.paths import planted_bars
from sentio_kedro.agent.forecasting.targets import Horizon, bar_targets, horizons, segment_targets
from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars


def bars_of(*returns: np.ndarray) -> AlignedBars:
    frames = [planted_bars(column, f"S{index}") for index, column in enumerate(returns)]
    return align_bars(pd.concat(frames), IngestionParameters())


def test_segments_are_disjoint_and_follow_each_other() -> None:
    for density in (48.0, 1.0):
        parts = horizons(density)
        assert parts[0].first == 1
        assert all(after.first == before.last + 1 for before, after in pairwise(parts))
    assert [part.stride for part in horizons(48.0)] == [1, 1, 2, 6, 24]


def test_a_target_runs_from_the_open_that_fills_to_the_next_open() -> None:
    returns = 0.001 * np.arange(10.0)
    bars = bars_of(returns)  # a bar opens at the close before
    units = np.full((10, 1), 0.001)
    found = bar_targets(bars, units, latency=0)[:, 0]
    assert found[:8] == pytest.approx(np.minimum(np.arange(1.0, 9.0), 6.0))
    assert np.isnan(found[8:]).all()
    assert bar_targets(bars, units, latency=2)[:3, 0] == pytest.approx([3.0, 4.0, 5.0])


def test_sums_over_segments_by_hand() -> None:
    targets = np.array([[1.0, 3.0], [2.0, 2.0], [4.0, -2.0], [np.nan, 1.0], [1.0, 1.0], [np.nan, np.nan]])
    parts = (Horizon(1, 1), Horizon(2, 3))
    rows = np.arange(3)
    premium = segment_targets(targets, parts, "premium", rows)
    assert premium[0, :, 0].tolist() == [1.0, 3.0]
    assert premium[0, :, 1] == pytest.approx([6.0 / 2**0.5, 0.0])
    assert premium[2, 0, 1] == pytest.approx(1.0 / 2**0.5)  # a bar that a halt has taken counts as 0
    assert np.isnan(premium[3, 0]).all()
    assert np.isnan(premium[3:, :, 1]).all()  # beyond the data
    relative = segment_targets(targets, parts, "relative", rows)
    assert relative[0, :, 0].tolist() == [-1.0, 1.0]
    assert relative[3, 1, 0] == 0.0  # alone in its row
    directional = segment_targets(targets, parts, "directional", rows)
    assert directional[rows, :, 0].sum() == pytest.approx(0.0)
    assert directional[4, 0, 0] == pytest.approx(1.0 - 10.0 / 6.0)
