"""Timestamps of bars: read exactly or not at all, and arithmetic on the ends of bars."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentio_kedro.market.ingestion.timestamps import (
    bars_per_session,
    closing_days,
    days_since_previous,
    localize_timestamps,
    moment,
    most_common_gap,
    parse_timestamps,
    periods_per_year,
    utc_timestamps,
)

CRYPTO = np.datetime64("2020-01-01T00:30", "ns") + np.arange(480) * np.timedelta64(30, "m")
DAILY = np.datetime64("2020-01-01T21:00", "ns") + np.array([0, 1, 2, 5, 6]) * np.timedelta64(1, "D")


def test_calendar_counts_bars_of_a_day():
    assert periods_per_year(CRYPTO, 365.0) == 365 * 48
    assert periods_per_year(DAILY, 252.0) == 252
    assert bars_per_session(CRYPTO) == 48
    assert bars_per_session(DAILY) == 1


def test_gaps_are_measured_in_days_and_the_commonest_is_found():
    np.testing.assert_allclose(days_since_previous(DAILY), [0, 1, 1, 3, 1])
    assert most_common_gap(DAILY) == np.timedelta64(1, "D")
    with pytest.raises(ValueError, match="bar_minutes"):
        most_common_gap(DAILY[:1])


def test_a_bar_that_ends_at_midnight_belongs_to_the_day_that_it_closes():
    timestamps = np.array(["2020-01-01T23:30", "2020-01-02T00:00", "2020-01-02T00:30"], dtype="datetime64[ns]")
    assert closing_days(timestamps).astype(str).tolist() == ["2020-01-01", "2020-01-01", "2020-01-02"]


PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FIRST, AFTER = -9214560000, 9214646400  # seconds of 1678-01-01 and 2262-01-01 since 1970


def held_exactly(read: pd.Series, seconds_and_rest: list[tuple[int, int]]) -> None:
    """Each timestamp is the one that was given, in seconds and nanoseconds since 1970, or NaT beyond the range."""
    assert read.dtype in ("datetime64[ns]", "datetime64[ns, UTC]")
    expected = [seconds * 10**9 + rest if FIRST <= seconds < AFTER else None for seconds, rest in seconds_and_rest]
    assert [None if pd.isna(stamp) else stamp.value for stamp in read] == expected


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(PER_SECOND)), st.data(), st.booleans())
def test_columns_of_any_resolution_are_read_exactly_or_not_at_all(unit, data, zoned):
    per_second = PER_SECOND[unit]
    bound = 2**63 - 1 if unit == "ns" else 10**12 * per_second  # the year 33,658
    counts = data.draw(st.lists(st.integers(-bound, bound) | st.integers(-(10**10) * per_second, 10**10 * per_second)))
    counts = [count for count in counts if abs(count) <= bound]
    column = pd.Series(np.array(counts, dtype=f"datetime64[{unit}]"))
    read = parse_timestamps(column.dt.tz_localize("UTC") if zoned else column)
    rests = [(count // per_second, count % per_second * (10**9 // per_second)) for count in counts]
    held_exactly(read, rests)


@settings(max_examples=40, deadline=None)
@given(st.datetimes(), st.integers(0, 999), st.integers(-23 * 60, 23 * 60))
@example(dt.datetime(9999, 12, 31, 23, 59), 0, -23 * 60)
@example(dt.datetime(2261, 12, 31, 23, 59, 59, 999999), 999, -1)
@example(dt.datetime(1, 1, 1), 0, 60)
def test_texts_are_read_exactly_or_not_at_all(time, nanosecond, offset):
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    text = f"{time.isoformat(timespec='microseconds')}{nanosecond:03}{sign}{hours:02}:{minutes:02}"
    since = time - dt.datetime(1970, 1, 1)
    read = parse_timestamps(pd.Series([text], dtype=object))
    held_exactly(read, [(since.days * 86400 + since.seconds - offset * 60, since.microseconds * 1000 + nanosecond)])


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(9999, 12, 31, tzinfo=dt.UTC),
        dt.datetime(9999, 12, 31),
        dt.date(9999, 12, 31),
        dt.date(1500, 1, 1),
        np.datetime64("9999-12-31"),
        pd.Timestamp("2262-01-01"),
        "9999-12-31",
        "0000-01-01",
        "-2020-01-01",
        "10000-01-01T00:00Z",
        "2261-12-31T23:59-12:00",
        "2020-01-01T00:00:00.1234567891Z",
        "2020-02-30",
        "2020-01-01\ud800",
        b"\xd8",
        None,
    ],
)
def test_objects_beyond_the_range_are_not_read(value):
    good = "2020-01-01T00:00Z" if "+" in str(value) or str(value).endswith(("Z", "-12:00")) else "2020-01-01"
    read = parse_timestamps(pd.Series([good, value], dtype=object))
    assert read.isna().tolist() == [False, True]
    assert read[0].tz_localize(None) == pd.Timestamp("2020-01-01")


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_columns_of_arrow_are_read(unit, zone):
    counts = [1577836800 * PER_SECOND[unit], 253402214400 * PER_SECOND[unit]]  # 2020-01-01, 9999-12-31
    read = parse_timestamps(pd.Series(counts, dtype=pd.ArrowDtype(pa.timestamp(unit, zone))))
    held_exactly(read, [(1577836800, 0), (253402214400, 0)])


def test_offsets_of_hours_alone_are_no_local_times():
    texts = pd.Series(["2020-01-01T05:00+05", "2020-01-01T00:00-05", "2020-01-01T00:00"], dtype=object)
    read = parse_timestamps(texts)
    assert read[0] == pd.Timestamp("2020-01-01T00:00Z")
    assert read[1] == pd.Timestamp("2020-01-01T05:00Z")
    assert pd.isna(read[2])


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
def test_the_edges_of_the_range_have_room_for_every_zone(zone):
    edges = parse_timestamps(pd.Series(["1678-01-01", "2261-12-31T23:59:59.999999999"]))
    local = localize_timestamps(edges, zone).dt.tz_convert(zone).dt.tz_localize(None)
    assert (local == edges).all()


def test_ends_of_any_resolution_become_nanoseconds_or_are_refused():
    coarse = pd.Series(np.array(["2020-01-01", "NaT"], dtype="datetime64[s]")).dt.tz_localize("UTC")
    ends = utc_timestamps(coarse)
    assert ends.dtype == np.dtype("datetime64[ns]")
    assert ends[0] == np.datetime64("2020-01-01", "ns")
    assert np.isnat(ends[1])
    coarse[1] = pd.Timestamp("9999-12-31T00:00Z")
    with pytest.raises(ValueError, match=r"`timestamp` must lie in the years 1678 to 2261.*9999-12-31.*; correct it"):
        utc_timestamps(coarse)


def test_one_moment_is_read_or_refused_by_name():
    assert moment("2020-01-01T05:00:00+05:00") == np.datetime64("2020-01-01", "ns")
    assert moment(dt.datetime(2020, 1, 1)).dtype == np.dtype("datetime64[ns]")
    with pytest.raises(ValueError, match=r"`begin` must lie in the years 1678 to 2261.*9999-12-31.*; correct it"):
        moment("9999-12-31", "begin")
