"""Bars that arrive at a session: kept exactly or refused."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bar_checks import check_bars
from sentio_kedro.market.ingestion.problems import BarsError
from sentio_kedro.serving import incoming_bars
from sentio_kedro.serving.incoming_bars import GapBounds, aligned_new, new_rows, of_symbols

HALF_HOUR = GapBounds(np.timedelta64(30, "m"), np.timedelta64(30, "m"))


def bars_of(times, symbols=("AAA", "BBB"), unit="ns"):
    """A long frame of one bar a time and symbol."""
    column = pd.Series(np.repeat(np.array(times, dtype=f"datetime64[{unit}]"), len(symbols))).dt.tz_localize("UTC")
    values = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 5.0}
    return pd.DataFrame({"timestamp": column, "symbol": list(symbols) * len(times), **values})


def known(newest="2020-01-01T00:00"):
    return aligned_new(bars_of([newest]))


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_bar_beyond_the_range_does_not_become_the_next_one(unit):
    """9999-12-31 wraps around to 1816-03-29."""
    for time in ("9999-12-31", "1500-01-01"):
        with pytest.raises(BarsError, match=rf"AAA {time} 00:00:00\+00:00 in row 0"):
            new_rows(bars_of([time], unit=unit), known("1816-03-29T05:30"), HALF_HOUR)


@settings(max_examples=25, deadline=None)
@given(st.datetimes(), st.sampled_from(["s", "ms", "us"]))
def test_a_bar_of_any_time_is_taken_exactly_or_refused(time, unit):
    time = time.replace(microsecond=0)
    if 1678 <= time.year <= 2261:
        ends = aligned_new(bars_of([time], unit=unit)).timestamps
        assert ends.tolist() == [int((time - dt.datetime(1970, 1, 1)).total_seconds()) * 10**9]
    else:
        with pytest.raises(BarsError, match="in the years 1678 to 2261"):
            aligned_new(bars_of([time], unit=unit))


def test_aligned_bars_of_another_resolution_are_refused():
    bars = known()
    with pytest.raises(ValueError, match=r"must be datetime64\[ns\], were datetime64\[s\]; let `align_bars`"):
        AlignedBars(bars.timestamps.astype("datetime64[s]"), bars.symbols, *bars.columns().values())


def test_a_gap_that_wraps_around_is_a_gap():
    with pytest.raises(ValueError, match=r"The bars from 1700-01-01.* to 2200-01-01.* are missing: 2\.62974e\+08 min"):
        new_rows(bars_of(["2200-01-01"]), known("1700-01-01"), HALF_HOUR)


@pytest.mark.parametrize("second", ["NaT", "2020-01-01T00:30"])
def test_aligned_bars_in_no_order_are_refused(second):
    bars = aligned_new(bars_of(["2020-01-01T00:30", "2020-01-01T01:00"]))
    bars.timestamps[:] = np.array(["2020-01-01T00:30", second], dtype="datetime64[ns]")
    with pytest.raises(ValueError, match=r"in order of time \(1 of 2 are too old\)"):
        new_rows(bars, known(), HALF_HOUR)


def test_symbols_that_are_no_text_are_not_turned_into_one():
    frame = bars_of(["2020-01-01"])
    frame["symbol"] = pd.Series([1, "1"], dtype=object)
    with pytest.raises(BarsError, match="symbol must be text"):
        aligned_new(frame)


@pytest.mark.parametrize("symbol", ["aaa", "AAA ", "Aaa"])
def test_a_symbol_of_another_case_is_told_with_the_one_that_it_may_mean(symbol):
    with pytest.raises(ValueError, match=rf"hold \['{symbol}'\] \(perhaps 'AAA' is meant by '{symbol}'\) too"):
        new_rows(bars_of(["2020-01-01T00:30"], (symbol, "BBB")), known(), HALF_HOUR)
    with pytest.raises(ValueError, match="perhaps 'AAA' is meant by"):
        of_symbols(aligned_new(bars_of(["2020-01-01"], ("AAA", "BBB", symbol))), ("AAA", "BBB"))


def test_columns_that_occur_twice_are_refused_unless_they_are_not_read():
    frame = bars_of(["2020-01-01T00:30"])
    with pytest.raises(BarsError, match="column `close`"):
        aligned_new(pd.concat([frame, frame[["close"]]], axis=1))
    notes = pd.DataFrame([["x", "y"]] * 2, columns=["note", "note"])
    bars = aligned_new(pd.concat([frame, notes], axis=1))
    np.testing.assert_array_equal(bars.close, [[10.5, 10.5]])


@pytest.mark.parametrize("value", ["two", [2.0], dt.date(2020, 1, 1)])
def test_an_optional_value_that_is_no_number_is_not_taken_as_none(value):
    frame = bars_of(["2020-01-01T00:30"]).assign(split=pd.Series([1.0, value], dtype=object))
    with pytest.raises(BarsError, match=r"BBB 2020-01-01T00:30Z split="):
        aligned_new(frame)
    frame["split"] = pd.Series([2, None], dtype=object)
    np.testing.assert_array_equal(aligned_new(frame).split, [[2.0, 1.0]])


def test_rounding_and_a_split_of_zero_are_read_as_in_ingestion():
    frame = bars_of(["2020-01-01T00:30"]).assign(split=[0.0, 2.0])
    frame.loc[0, "close"] = frame.loc[0, "high"] * (1 + 1e-9)
    (row,) = new_rows(frame, known(), HALF_HOUR)
    np.testing.assert_array_equal(row.split, [[1.0, 2.0]])
    assert row.high[0, 0] == frame.loc[0, "close"]


def test_good_bars_take_the_fast_path(monkeypatch):
    monkeypatch.setattr(incoming_bars, "check_bars", None)
    aligned_new(bars_of(["2020-01-01T00:30"]))
    aligned_new(bars_of(["2020-01-01T00:30"], unit="us"))


def test_wrong_values_are_counted_and_shown_in_full():
    bars = aligned_new(bars_of(["2020-01-01T00:30", "2020-01-01T01:00"]))
    bars.high[:] = 10.00000001
    with pytest.raises(BarsError, match=r"3 problem(?s:.*)AAA 2020-01-01T00:30:00Z .*high=10\.00000001"):
        bars.high[1, 1] = 11.0
        new_rows(bars, known(), HALF_HOUR)
    check_bars(bars_of(["2020-01-01T00:30"]))
