"""Power of the forecast rule: blocks, the lockbox, and a signal that no rule could miss."""

from pathlib import Path

import numpy as np
import pytest

from planted.paths import PlantedPath, path_bars
from power import Settings, make_blocks, measure, read_bars, summary
from sentio_kedro.market.ingestion.bars import align_bars

CHANGES = ["trading.costs.commission_bps=1", "trading.costs.half_spread_bps=0", "forecasting.sleeves=[directional]"]


def test_blocks_cover_the_second_half() -> None:
    assert make_blocks(101, 2) == [(50, 75), (75, 100)]


def test_bars_are_adjusted_and_the_lockbox_is_left_out(tmp_path: Path) -> None:
    path = PlantedPath.of(np.full((100, 1), 0.01), np.zeros((100, 1)))
    frame = path_bars(path).assign(adjustment=0.5)
    frame.to_parquet(tmp_path / "bars.parquet")
    settings = Settings.read("base", ["cross_validation.lockbox=0.2"])
    plain, adjusted = (read_bars(tmp_path / "bars.parquet", settings, adjust=adjust) for adjust in (False, True))
    assert len(plain.timestamps) == 80
    np.testing.assert_allclose(adjusted.close, 0.5 * plain.close)


def test_a_signal_that_no_rule_could_miss_is_found_and_a_short_history_is_not_traded() -> None:
    returns = np.random.default_rng(0).standard_normal((8_000, 1)) * 0.004
    settings = Settings.read("base", CHANGES)
    bars = align_bars(path_bars(PlantedPath.of(returns, np.zeros_like(returns))), settings.ingestion)
    records = measure(bars, settings, [25.0], [0.03, None], 0, 1)
    short, full = records
    assert short["opened_with"] == [False]
    assert short["found"] == 0.0
    assert full["opened_with"] == [True]
    assert full["opened_without"] == [False]
    assert full["found"] > 0.7
    assert full["expected"] > 0.8
    assert full["attainable"] == pytest.approx(1.0, abs=0.3)
    rows = summary(records)
    assert [(row["years"], row["seeds"]) for row in rows] == [(0.03, 1), (None, 1)]
    assert rows[1]["found_median"] == rows[1]["found_worst"] == full["found"]
