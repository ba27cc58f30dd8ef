"""Sessions: which one a bar belongs to, by UTC days or by an exchange's calendar with half days and daylight saving."""

import exchange_calendars
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.market.ingestion.sessions import (
    Clock,
    expected_timestamps,
    market_clock,
    outside_sessions,
    require_sessions,
    session_schedule,
)


def timestamps(*texts):
    return np.array(texts, dtype="datetime64[ns]")


def half_hours(day, first, last):
    """Bar ends every half hour of one UTC day, ``first`` and ``last`` included."""
    return np.arange(np.datetime64(f"{day}T{first}", "ns"), np.datetime64(f"{day}T{last}", "ns") + 1, 1_800_000_000_000)


def columns(clock):
    return clock.session.tolist(), clock.minutes_since_open.tolist(), clock.minutes_to_close.tolist()


def test_a_market_that_never_closes_has_utc_days_as_sessions():
    clock = market_clock(timestamps("2024-01-01T23:30", "2024-01-02", "2024-01-02T00:30", "2024-01-05T12:00"), None)
    assert clock.session.tolist() == [0, 0, 1, 4]
    assert clock.session.dtype == np.int64
    assert clock.elapsed.tolist() == pytest.approx([0.0, 1 / 48, 1 / 48, 3 + 11.5 / 24])
    assert np.isinf(clock.minutes_since_open).all()
    assert np.isinf(clock.minutes_to_close).all()


def test_a_session_runs_from_open_to_close():
    clock = market_clock(half_hours("2024-01-03", "15:00", "21:00"), "XNYS")  # New York, 9:30 to 16:00
    assert columns(clock) == ([0] * 13, [*range(30, 391, 30)], [*range(360, -1, -30)])
    assert clock.bars_per_session == 13


def test_daylight_saving_moves_the_session_in_utc():
    before, after = half_hours("2024-03-08", "15:00", "21:00"), half_hours("2024-03-11", "14:00", "20:00")
    clock = market_clock(np.concatenate([before, after]), "XNYS")
    assert clock.session.tolist() == [0] * 13 + [1] * 13
    assert clock.minutes_to_close.tolist() == [*range(360, -1, -30)] * 2
    assert clock.elapsed[13] == pytest.approx(2 + 17 / 24)


def test_a_half_day_closes_early():
    clock = market_clock(half_hours("2024-07-03", "14:00", "17:00"), "XNYS")  # closes at 13:00 New York
    assert columns(clock) == ([0] * 7, [*range(30, 211, 30)], [*range(180, -1, -30)])


def test_sessions_without_bars_count():
    clock = market_clock(
        timestamps("2024-01-02T21:00", "2024-01-03T21:00", "2024-01-08T21:00", "2024-01-16T21:00"), "XNYS"
    )
    assert clock.session.tolist() == [0, 1, 4, 9]  # weekends and Martin Luther King's day are none


@pytest.mark.parametrize("hour", ["21:00", "23:59"])
def test_daily_bars_close_their_session(hour):
    clock = market_clock(timestamps(*(f"2024-01-0{day}T{hour}" for day in (3, 4, 5, 8))), "XNYS")
    assert columns(clock) == ([0, 1, 2, 3], [390.0] * 4, [0.0] * 4)


@pytest.mark.parametrize("days", [(3, 4, 5, 8), (4, 5, 6, 9)])  # the session's date, the following midnight
@pytest.mark.parametrize("calendar", ["XNYS", "XASX", "XTKS", "CMES"])
def test_daily_bars_stamped_at_midnight_have_a_session_each(days, calendar):
    clock = market_clock(timestamps(*(f"2024-02-{10 + day}" for day in days)), calendar)  # Tuesday 13 to Monday 19
    assert (clock.minutes_to_close == 0.0).all()
    assert (clock.minutes_since_open > 300.0).all()
    assert (np.diff(clock.session) >= 1).all()


def test_a_daily_bar_inside_a_session_belongs_to_it():
    clock = market_clock(timestamps("2024-01-03T20:45", "2024-01-04T20:45", "2024-01-05T20:45"), "XNYS")
    assert columns(clock) == ([0, 1, 2], [375.0] * 3, [15.0] * 3)


def test_a_bar_that_runs_past_the_close_belongs_to_the_session_that_it_has_seen_close():
    hours = half_hours("2024-01-03", "15:30", "21:30")[::2]  # hourly from 9:30 New York, the last ends at 16:30
    assert columns(market_clock(hours, "XNYS")) == (
        [0] * 7,
        [60, 120, 180, 240, 300, 360, 390],
        [*range(330, 29, -60), 0],
    )


@pytest.mark.parametrize("lost", ["2024-01-03T14:30", "2024-01-03T12:00", "2024-01-03T21:30", "2024-01-06T16:00"])
def test_bars_outside_every_session_are_refused(lost):
    with pytest.raises(ValueError, match=rf"1 of 15 bars.*XNYS: {lost}:00Z.*ingestion\.timezone"):
        require_sessions(
            np.sort(np.append(half_hours("2024-01-04", "15:00", "21:00"), timestamps(lost, "2024-01-02T21:00"))), "XNYS"
        )


def test_bars_outside_every_session_belong_to_the_nearer_one():
    """Extended hours: before the open to the coming session, after the close to the one that closed."""
    ends = timestamps(
        "2024-01-03T14:00", "2024-01-03T15:00", "2024-01-03T22:00", "2024-01-03T23:00", "2024-01-04T14:30"
    )
    assert outside_sessions(ends, "XNYS").tolist() == [True, False, True, True, True]
    assert columns(market_clock(ends, "XNYS")) == ([0, 0, 0, 0, 1], [0, 30, 390, 390, 0], [390, 360, 0, 0, 390])


def test_an_unknown_calendar_is_refused_with_names_like_it():
    with pytest.raises(ValueError, match=r"`trading\.calendar`.*'xnsy'.*XNYS.*null"):
        market_clock(timestamps("2024-01-03T21:00"), "xnsy")
    with pytest.raises(ValueError, match="XNYS, XLON, CMES"):
        market_clock(timestamps("2024-01-03T21:00"), "????????")


def test_stamps_that_a_calendar_does_not_know_are_refused():
    with pytest.raises(ValueError, match=r"`trading\.calendar` XHKG does not cover.*1949.*cut the bars"):
        market_clock(timestamps("1950-01-04T08:00", "1950-01-05T08:00"), "XHKG")


def test_rows_are_cut_as_they_are():
    clock = market_clock(half_hours("2024-01-01", "00:30", "23:30"), None)._replace(session=np.arange(47))
    part = clock.rows(np.array([7, 3]))
    assert part.session.tolist() == [7, 3]
    assert part.elapsed.tolist() == clock.elapsed[[7, 3]].tolist()
    assert part.bars_per_session == clock.bars_per_session
    assert clock.rows(slice(2, 5)).session.tolist() == [2, 3, 4]


def test_sessions_along_a_path_begin_at_seams_and_where_the_source_begins_one():
    count = np.arange(12.0)
    clock = Clock(count, np.array([0, 0, 0, 3, 3, 3, 4, 4, 4, 5, 5, 5]), 10 * count, 20 * count, 3.0)
    path = clock.along(np.array([4, 5, 6, 7, 6, 7, 7, 3, 0]))
    assert path.session.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5]
    assert path.elapsed.tolist() == [4, 5, 6, 7, 6, 7, 7, 3, 0]
    assert path.minutes_since_open.tolist() == [40, 50, 60, 70, 60, 70, 70, 30, 0]
    assert path.minutes_to_close.tolist() == [80, 100, 120, 140, 120, 140, 140, 60, 0]
    assert path.bars_per_session == 3.0


@given(rows=st.lists(st.integers(0, 11), min_size=1, max_size=40))
def test_sessions_along_a_path_never_fall_and_never_join_what_was_apart(rows):
    clock = market_clock(half_hours("2024-01-01", "18:30", "23:30"), None)._replace(session=np.arange(12) // 4)
    rows = np.array(rows)
    session = (
        clock._replace(**{name: np.zeros(12) for name in clock._fields[:1] + clock._fields[2:4]}).along(rows).session
    )
    together = np.diff(session) == 0
    assert (np.diff(session) >= 0).all()
    np.testing.assert_array_equal(together, (np.diff(rows) == 1) & (rows[1:] // 4 == rows[:-1] // 4))


@pytest.mark.parametrize(
    ("calendar", "timestamps", "expected"),
    [
        (None, ["2024-03-01T23:00", "2024-03-01T23:30"], ["2024-03-02T00:00", "2024-03-02T00:30"]),
        ("XNYS", ["2024-03-01T20:00", "2024-03-01T20:30"], ["2024-03-01T21:00", "2024-03-04T15:00"]),  # a weekend
        ("XNYS", ["2024-07-03T16:00", "2024-07-03T16:30"], ["2024-07-03T17:00", "2024-07-05T14:00"]),  # a half day
        ("XNYS", ["2024-03-07T21:00", "2024-03-08T21:00"], ["2024-03-11T20:00", "2024-03-12T20:00"]),  # whole sessions
        ("XNYS", ["2024-03-08T00:00", "2024-03-09T00:00"], ["2024-03-12T00:00", "2024-03-13T00:00"]),  # dates
    ],
)
def test_the_stamps_of_the_next_bars_follow_from_the_sessions(
    calendar: str | None, timestamps: list[str], expected: list[str]
) -> None:
    known = np.array(timestamps, dtype="datetime64[ns]")
    horizon = np.array([known[0], known[-1] + np.timedelta64(20, "D")])
    schedule = None if calendar is None else session_schedule(horizon, calendar)
    assert expected_timestamps(known, 2, schedule).tolist() == np.array(expected, dtype="datetime64[ns]").tolist()


def test_sessions_are_looked_up_no_further_ahead_than_the_calendar_is_known() -> None:
    bound = exchange_calendars.get_calendar("XSHG", start="2025-01-01", end="2025-02-01").bound_max().to_datetime64()
    timestamps = (bound - np.array([40, 30]) * np.timedelta64(1, "D")).astype("datetime64[ns]")
    schedule = session_schedule(timestamps, "XSHG", np.timedelta64(400, "D"))
    assert bound - np.timedelta64(10, "D") < schedule.closes[-1] <= bound + np.timedelta64(1, "D")
    assert session_schedule(timestamps, "XNYS", np.timedelta64(400, "D")).closes[-1] > timestamps[-1] + np.timedelta64(
        390, "D"
    )
    newest = np.array([schedule.closes[-1] - np.timedelta64(30, "m"), schedule.closes[-1]])
    assert expected_timestamps(newest - np.timedelta64(30, "m"), 1, schedule).tolist() == newest[1:].tolist()
    with pytest.raises(ValueError, match=r"XSHG is defined up to .* only, .* upgrade the package exchange_calendars"):
        expected_timestamps(newest, 1, schedule)
