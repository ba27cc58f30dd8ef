"""What bars hold, counted on small frames."""

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.adoption import measures

DAYS = pd.date_range("2024-06-05", periods=5, freq="D")


def frame(close, symbol="AAA", **columns):
    close = np.asarray(close, dtype=float)
    values = {"open": close, "high": close + 1.0, "low": close - 1.0, "close": close, "volume": 1.0, **columns}
    return pd.DataFrame({"timestamp": DAYS[: len(close)], "symbol": symbol, **values})


def test_order_violations_are_counted_by_size_and_the_worst_is_named():
    bars = frame([100, 100, 100], open=[101 + 1e-7 * 101, 102, 100])
    found = measures.order_violations(bars)
    assert (found["rounding"], found["larger"]) == (1, 1)
    assert found["worst"] == "AAA 2024-06-06, by 0.0099 of the high"
    assert measures.order_violations(frame([100, 100]))["worst"] is None


def test_a_split_that_everybody_knows_tells_whether_prices_are_adjusted():
    traded = measures.known_splits(frame([1200, 1210, 1205, 121, 120], "NVDA", timestamp=DAYS + pd.Timedelta(days=2)))
    assert traded == ["NVDA fell by its 10:1 split of 2024-06-10: not adjusted for splits"]
    adjusted = measures.known_splits(frame([120, 121, 120, 121, 120], "NVDA", timestamp=DAYS + pd.Timedelta(days=2)))
    assert adjusted == ["NVDA did not fall by its 10:1 split of 2024-06-10: adjusted for splits"]


def test_the_longest_holes_are_named_and_usual_ones_are_not():
    grid = np.array(["2024-06-07", "2024-06-10", "2024-06-11", "2025-06-11"], dtype="datetime64[ns]")
    gaps = measures.longest_gaps(grid, np.timedelta64(1, "D"), np.timedelta64(4, "D"))
    assert [(gap.after, gap.until, gap.days) for gap in gaps] == [("2024-06-11", "2025-06-11", 365.0)]


def test_symbols_hours_and_volume():
    bars = frame([100, 101, 102], volume=[0, 0, 5])
    facts = measures.symbol_facts(bars)["AAA"]
    assert (facts.rows, facts.first, facts.last, facts.bar_minutes) == (3, "2024-06-05", "2024-06-07", 1440.0)
    assert measures.hours(measures.naive_stamps(bars)) == {
        "first": "00:00",
        "last": "00:00",
        "weekdays": "Wed, Thu, Fri",
    }
    assert measures.volume_share(bars) == pytest.approx(1 / 3)


def test_daily_stamps_of_several_zones_are_found():
    days = pd.Series(pd.date_range("2024-06-03 07:00", periods=12, freq="D"))
    bars = pd.DataFrame({"timestamp": days, "symbol": "AAA", "close": 100.0})
    assert measures.mixed_lengths(bars) == []
    bars["timestamp"] += pd.to_timedelta(pd.Series([0, 14] * 6), unit="h")
    assert [problem.cases for problem in measures.mixed_lengths(bars)] == [("AAA has bars at 7 and 21 o'clock in UTC",)]
