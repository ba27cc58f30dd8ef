"""Calendars are ranked by the bars inside their sessions and those that are lacking."""

import numpy as np
import pandas as pd

from sentio_kedro.adoption.calendars import rank_calendars, session_label, zoned

HALF_HOUR, DAY = np.timedelta64(30, "m"), np.timedelta64(1, "D")


def stamps(index: pd.DatetimeIndex) -> np.ndarray:
    return index.to_numpy(dtype="datetime64[ns]")


def mornings(*days: str, clock: str = "09:30", count: int = 13) -> np.ndarray:
    parts = [pd.date_range(f"{day} {clock}", periods=count, freq="30min") for day in days]
    return stamps(parts[0].append(parts[1:]))


def test_stamps_without_a_zone_fit_new_york_in_its_own():
    fits = rank_calendars(mornings("2024-03-08", "2024-03-11"), HALF_HOUR, True, None, "XNYS")
    best = next(fit for fit in fits if fit.calendar == "XNYS")
    assert (best.zone, best.bars, best.inside, best.lacking, best.outside) == ("America/New_York", 26, 26, 0, None)
    assert best.score == max(fit.score for fit in fits)


def test_bars_at_all_hours_fit_the_market_that_never_closes():
    grid = stamps(pd.date_range("2024-03-08", periods=300, freq="h"))
    best = rank_calendars(grid, np.timedelta64(1, "h"), True, "UTC", None)[0]
    assert (best.calendar, best.inside, best.lacking) == ("24/7", 300, 0)


def test_a_bar_on_a_holiday_is_outside_and_a_session_without_one_is_lacking():
    grid = stamps(pd.bdate_range("2024-01-08", "2024-01-19"))  # Martin Luther King's day is the 15th
    fits = {fit.calendar: fit for fit in rank_calendars(grid[1:], DAY, True, "UTC", None)}
    assert (fits["XNYS"].bars, fits["XNYS"].inside, fits["XNYS"].lacking) == (9, 8, 0)
    assert fits["XNYS"].outside == np.datetime64("2024-01-15")
    holes = np.delete(grid, 2)
    assert {fit.calendar: fit for fit in rank_calendars(holes, DAY, True, "UTC", None)}["XLON"].lacking == 1


def test_the_first_bar_at_the_open_tells_starts_and_the_last_at_the_close_ends():
    start = zoned(mornings("2024-03-08"), "America/New_York")
    assert session_label(start, "XNYS") == "start"
    assert session_label(start + HALF_HOUR, "XNYS") == "end"
    assert session_label(start + np.timedelta64(7, "m"), "XNYS") is None
