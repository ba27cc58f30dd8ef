"""A table of targets: checked as a whole, then followed to the letter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.config import (
    CostParameters,
    IngestionParameters,
    TradingParameters,
)
from sentio_kedro.damage import DamagedFileError
from sentio_kedro.evaluation.backtest.baselines.schedules import simulate_schedules
from sentio_kedro.evaluation.backtest.baselines.target_positions import TargetsError, read_targets, target_schedule
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Segment

BARS = 60
ROWS = Segment(10, BARS - 1)
LIMITS = TradingParameters(costs=CostParameters(commission_bps=5, half_spread_bps=3))


@pytest.fixture(scope="module", name="bars")
def bars_fixture() -> AlignedBars:
    frames = [
        planted_bars(autoregressive_returns(BARS, 0.2, 0.01, seed=s), name) for s, name in enumerate(("AAA", "BBB"))
    ]
    return align_bars(pd.concat(frames), IngestionParameters())


def timestamp(bars: AlignedBars, row: int) -> str:
    return f"{pd.Timestamp(bars.timestamps[row]).isoformat()}Z"


def table(bars: AlignedBars, *rows: tuple[int, str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [(timestamp(bars, row), symbol, target) for row, symbol, target in rows],
        columns=["timestamp", "symbol", "target"],
    )


def walked(bars: AlignedBars, targets: np.ndarray) -> np.ndarray:
    context = BacktestContext.of(bars, np.zeros((BARS, 2, 1)), {}, LIMITS)
    chunks = simulate_schedules(context, ROWS, {"targets": targets})
    return np.concatenate([chunk.ledger.fills.position[:, 0] for chunk in chunks])


def test_a_csv_gives_the_positions_of_the_schedule_that_it_tells(bars: AlignedBars, tmp_path: Path) -> None:
    frame = table(bars, (12, "AAA", 0.3), (12, "BBB", -0.25), (20, "AAA", float("nan")), (30, "BBB", 0.0))
    frame.to_csv(tmp_path / "targets.csv", index=False)
    targets = target_schedule(read_targets(tmp_path / "targets.csv"), bars, ROWS, LIMITS)
    assert np.argwhere(~np.isnan(targets)).tolist() == [[2, 0], [2, 1], [20, 1]]
    assert targets[[2, 2, 20], [0, 1, 1]].tolist() == [0.3, -0.25, 0.0]
    positions = walked(bars, targets)
    assert (positions[:2] == 0.0).all()
    assert positions[2].tolist() == pytest.approx([0.3, -0.25], abs=1e-12)  # bars open at the close decided on
    assert (positions[21:-1, 0] > 0.2).all()  # held, whatever its price does
    assert (positions[20:, 1] == 0.0).all()
    assert positions[-1, 0] == 0.0  # closed at the end


def test_everything_that_is_wrong_is_told_at_once(bars: AlignedBars) -> None:
    frame = table(
        bars,
        *((12, "ZZZ", 0.1), (13, "AAA", 1.5), (14, "AAA", 0.7), (14, "BBB", -0.7), (15, "AAA", 0.1), (15, "AAA", 0.2)),
    )  # fmt: skip
    frame["target"] = frame["target"].astype(object)
    frame.loc[len(frame)] = [timestamp(bars, 16), "AAA", "much"]
    frame.loc[len(frame)] = ["2020-01-01T00:07:00Z", "AAA", 0.1]
    frame.loc[len(frame)] = ["2020-01-01T01:00:00", "AAA", 0.1]
    frame.loc[len(frame)] = ["9999-12-31T00:00Z", "AAA", 0.1]
    with pytest.raises(TargetsError) as refused:
        target_schedule(frame, bars, ROWS, LIMITS)
    for part in (
        "1 symbols other than ['AAA', 'BBB'] (", "ZZZ", "1 targets beyond 1 of equity (", "AAA 1.5",
        "2 targets of one timestamp that add up to more than `trading.gross_limit` = 1 (", "1 repeated rows", "much",
        "1 timestamps that are no bar's end (2020-01-01T00:07:00Z",
        "2 timestamps that cannot be read, have no zone or lie outside the years 1678 to 2261 (", "9999-12-31T00:00Z",
    ):  # fmt: skip
        assert part in str(refused.value), part


@pytest.mark.parametrize("unit", ["s", "us"])
def test_targets_beyond_the_range_of_time_are_no_targets_of_another_bar(bars: AlignedBars, unit: str) -> None:
    frame = table(bars, (12, "AAA", 0.1), (13, "AAA", 0.2))
    frame["timestamp"] = pd.to_datetime(frame["timestamp"]).dt.as_unit(unit)  # type: ignore[arg-type]
    frame.loc[1, "timestamp"] = pd.Timestamp("9999-12-31T00:00Z")
    with pytest.raises(TargetsError, match=r"1 timestamps that .*lie outside the years 1678 to 2261 \(9999-12-31"):
        target_schedule(frame, bars, ROWS, LIMITS)


def test_a_symbol_of_another_case_is_told_with_the_one_that_it_may_mean(bars: AlignedBars) -> None:
    frame = table(bars, (12, "aaa", 0.1), (13, "BBB ", 0.2))
    with pytest.raises(TargetsError, match=r"'BBB' is meant by 'BBB ', 'AAA' is meant by 'aaa'"):
        target_schedule(frame, bars, ROWS, LIMITS)


def test_a_target_may_use_the_leverage_that_the_limits_allow(bars: AlignedBars) -> None:
    frame = table(bars, (12, "AAA", 1.5))
    with pytest.raises(TargetsError, match="beyond 1 of equity"):
        target_schedule(frame, bars, ROWS, replace(LIMITS, gross_limit=2.0))
    assert target_schedule(frame, bars, ROWS, replace(LIMITS, gross_limit=2.0, max_position=1.5))[2, 0] == 1.5


def test_missing_columns_rows_and_files_are_named(bars: AlignedBars, tmp_path: Path) -> None:
    with pytest.raises(TargetsError, match=r"lack the columns \['target'\]"):
        target_schedule(table(bars, (12, "AAA", 0.1)).drop(columns="target"), bars, ROWS, LIMITS)
    with pytest.raises(TargetsError, match="no target at the tested bars, which run from 2020-01-01 05:00:00"):
        target_schedule(table(bars, (3, "AAA", 0.1)), bars, ROWS, LIMITS)
    with pytest.raises(TargetsError, match=r"is none; correct the path"):
        read_targets(tmp_path / "nothing.csv")
    (tmp_path / "torn.csv").write_text('timestamp,symbol,target\n"2020')
    with pytest.raises(DamagedFileError, match=r"torn.csv` cannot be read \(.*; correct the file, or set"):
        read_targets(tmp_path / "torn.csv")


def test_a_symbol_may_be_called_na(tmp_path: Path) -> None:
    (tmp_path / "targets.csv").write_text("timestamp,symbol,target\n2020-01-01T00:00:00Z,NA,\n")
    read = read_targets(tmp_path / "targets.csv")
    assert read["symbol"].tolist() == ["NA"]
    assert read["target"].isna().all()
