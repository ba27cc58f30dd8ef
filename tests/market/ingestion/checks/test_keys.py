"""Keys of bars: epochs, order, duplicates."""

import numpy as np
import pandas as pd
import pytest
from tests.market.ingestion.conftest import only

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.bars import align_bars, bars_hash
from sentio_kedro.schemas import Bars

HOURS = pd.date_range("2024-01-01", periods=6, freq="h", tz="UTC")
SECONDS = 1_704_067_200 + 3600 * np.arange(6)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", ["int64", "str", "float64"])
def test_epochs_are_read_by_their_magnitude_and_told(unit, kind, make_walk, examine):
    numbers = SECONDS * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    frame = make_walk(HOURS).assign(timestamp=pd.Series(numbers).astype(kind))
    if (unit, kind) == ("ns", "float64"):  # a float holds no nanoseconds of today
        assert examine(frame).refused
        return
    rule, count, cases = only(examine(frame), "told")
    assert (rule, count) == (f"timestamps are numbers and were read as {unit} since 1970, UTC", 6)
    assert cases == ("2024-01-01T00:00:00Z to 2024-01-01T05:00:00Z",)
    parameters = IngestionParameters(bar_label="start")
    read, expected = align_bars(frame, parameters), align_bars(make_walk(HOURS), parameters)
    np.testing.assert_array_equal(read.timestamps, expected.timestamps)
    validated = Bars.validate(frame)
    assert bars_hash(validated) == bars_hash(frame) == bars_hash(make_walk(HOURS))
    assert only(examine(validated), "told")[1] == 6  # what the catalog checked is still counted


@pytest.mark.parametrize(
    ("numbers", "case"),
    [
        ([*(SECONDS[:4] * 1000), *(SECONDS[4:] * 10**6)], "in row 4 looks like us, those before are ms"),
        (20_240_101 + np.arange(6), "in row 0 looks like a date yyyymmdd"),
        (
            45_292 + np.arange(6),
            "in row 0 looks like the date number 2024-01-01 of a spreadsheet: export dates as text",
        ),
        (2_024_010_100 + np.arange(6), "in row 0 looks like digits of a date"),
        (202_401_010_000 + np.arange(6), "in row 0 looks like digits of a date"),
        (20_240_101_000_000 + np.arange(6), "in row 0 looks like digits of a date"),
        (SECONDS + 0.5, "in row 0"),
        (np.arange(6), "in row 0"),
    ],
)
def test_numbers_that_are_no_epochs_of_one_unit_are_refused_at_the_first_row(numbers, case, make_walk, examine):
    examined = examine(make_walk(HOURS).assign(timestamp=numbers))
    (problem,) = examined.refused
    assert problem.cases[0] == f"A {pd.Series(numbers).iloc[int(case.split()[2])]} {case}"
    assert "`load_args: {dtype: {timestamp: str}}`" in problem.rule


def test_dates_of_digits_that_are_text_stay_dates(make_walk, examine):
    frame = make_walk(pd.date_range("2024-01-01", periods=6, tz="UTC")).assign(
        timestamp=[f"2024010{day}" for day in range(1, 7)]
    )
    assert not examine(frame).problems


def test_newest_first_is_sorted_and_counted(make_walk, examine):
    frame = make_walk(HOURS)
    examined = examine(frame[::-1])
    rule, count, _ = only(examined, "told")
    assert "were sorted" in rule
    assert count == 5
    pd.testing.assert_frame_equal(examined.frame, frame)
    assert bars_hash(Bars.validate(frame[::-1])) == bars_hash(frame)


def test_exact_duplicates_are_dropped_and_differing_ones_refused_with_both_values(make_walk, examine):
    frame = make_walk(HOURS).assign(split=np.nan)
    examined = examine(pd.concat([frame, frame.iloc[2:4]]))
    severities = {problem.severity: problem for problem in examined.problems}
    assert severities["repaired"].cases == ("A 2024-01-01T02:00Z row 6", "A 2024-01-01T03:00Z row 7")
    pd.testing.assert_frame_equal(examined.frame, frame)
    other = pd.concat([frame, frame.iloc[2:3].assign(volume=7.5)])
    (problem,) = examine(other).refused
    assert problem.cases == (f"A 2024-01-01T02:00Z row 6 after row 2: volume=7.5 after {frame['volume'][2]:g}",)
    assert "two symbols" in problem.rule
