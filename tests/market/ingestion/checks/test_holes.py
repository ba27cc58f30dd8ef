"""Missing bars against the length of a bar, the usual days, or a calendar."""

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.checks.holes import find_holes
from sentio_kedro.market.ingestion.data_quality import data_quality
from sentio_kedro.market.ingestion.sessions import session_schedule

HALF, HOUR, DAY = np.timedelta64(30, "m"), np.timedelta64(1, "h"), np.timedelta64(1, "D")


def ends(index):
    return index.tz_localize(None).to_numpy(dtype="datetime64[ns]")


def new_york(days, minutes=30, holidays=()):
    """Ends of the bars of sessions; the last before a holiday in `holidays` is none of them."""
    parts = [
        pd.date_range(day + pd.Timedelta("9h30min"), day + pd.Timedelta("16h"), freq=f"{minutes}min", inclusive="right")
        for day in days
        if str(day.date()) not in holidays
    ]
    return ends(parts[0].append(parts[1:]).tz_localize("America/New_York").tz_convert("UTC"))


def test_a_market_that_never_closes_is_measured_by_the_length_of_a_bar():
    hours = ends(pd.date_range("2024-01-02", periods=200, freq="h"))
    holed = np.delete(hours, slice(60, 130))
    found = find_holes(holed, HOUR)
    assert (found.expected, found.missing, found.longest) == (200, 70, 70)
    assert found.to_dict() == {
        "expected_bars": 200,
        "missing_share": 0.35,
        "longest_hole": {"bars": 70, "after": "2024-01-04T11:00:00Z", "before": "2024-01-07T10:00:00Z"},
    }
    assert find_holes(hours, HOUR).to_dict() == {"expected_bars": 200, "missing_share": 0.0, "longest_hole": None}
    assert find_holes(hours[:1], HOUR).expected == 1


@pytest.mark.parametrize("calendar", [None, "XNYS"])
def test_nights_weekends_and_daylight_saving_are_no_holes(calendar):
    stamps = new_york(pd.bdate_range("2024-02-20", "2024-03-28"))
    schedule = None if calendar is None else session_schedule(stamps, calendar)
    assert find_holes(stamps, HALF, schedule).missing == 0
    assert find_holes(stamps[5:-4], HALF, schedule).missing == 0  # begins and ends within a session
    without_a_day = stamps[stamps.astype("datetime64[D]") != np.datetime64("2024-03-06")]
    found = find_holes(without_a_day, HALF, schedule)
    assert (found.missing, found.longest) == (13, 13)
    assert str(found.after) == "2024-03-05T21:00:00.000000000"
    without_two = np.delete(stamps, [105, 106])
    assert find_holes(without_two, HALF, schedule).missing == 2


def test_holidays_and_half_days_are_no_holes_of_a_calendar():
    days = pd.bdate_range("2024-06-24", "2024-07-19")
    stamps = new_york(days, holidays=("2024-07-04",))
    closed = (stamps > np.datetime64("2024-07-03T17:00")) & (stamps < np.datetime64("2024-07-04"))
    half = stamps[~closed]
    assert find_holes(half, HALF, session_schedule(half, "XNYS")).missing == 0
    assert find_holes(half, HALF).missing == 6 + 13
    daily = ends(pd.DatetimeIndex(days[days != "2024-07-04"])) + 20 * HOUR
    assert find_holes(daily, DAY, session_schedule(daily, "XNYS")).missing == 0
    assert find_holes(daily, DAY).missing == 1
    assert find_holes(np.delete(daily, 3), DAY, session_schedule(daily, "XNYS")).missing == 1


def test_a_break_at_noon_is_no_hole_and_one_that_is_longer_is():
    half = [
        pd.date_range("2024-01-01T00:10", "2024-01-01T02:30", freq="10min"),
        pd.date_range("2024-01-01T03:40", "2024-01-01T06:00", freq="10min"),
    ]
    day = half[0].append(half[1])
    stamps = ends(
        pd.DatetimeIndex(
            [stamp + pd.Timedelta(days=number) for number in (0, 1, 2, 3, 4, 7, 8, 9, 10, 11) for stamp in day]
        )
    )
    assert find_holes(stamps, np.timedelta64(10, "m")).missing == 0
    found = find_holes(np.delete(stamps, slice(120 + 15 - 3, 120 + 15 + 3)), np.timedelta64(10, "m"))
    assert (found.missing, found.longest) == (6, 6)


def test_a_rare_day_makes_no_holes_of_its_weekday():
    days = pd.bdate_range("2024-01-01", periods=60).append(pd.DatetimeIndex(["2024-02-10"])).sort_values()
    assert find_holes(ends(days), DAY).missing == 0


def test_months_are_measured_by_the_length_of_a_bar():
    months = ends(pd.date_range("2015-01-31", periods=60, freq="ME"))
    assert find_holes(months, 31 * DAY).missing == 0
    assert find_holes(np.delete(months, [20, 21]), 31 * DAY).longest == 2


def test_quality_counts_holes_of_the_grid_and_of_each_symbol_and_tells_them(make_walk):
    stamps = pd.date_range("2024-01-01", periods=24 * 14, freq="h", tz="UTC")
    few = stamps[::4].append(stamps[1::4]).sort_values()
    frame = pd.concat([make_walk(stamps.delete(range(100, 150)), "A"), make_walk(few.delete(range(60, 62)), "B")])
    parameters = IngestionParameters()
    quality = data_quality(frame, align_bars(frame, parameters), parameters)
    assert (quality["expected_bars"], quality["per_symbol"]["A"]["expected_bars"]) == (24 * 14, 24 * 14)
    assert quality["per_symbol"]["A"]["longest_hole"]["bars"] == 50
    assert quality["per_symbol"]["B"]["missing_share"] == pytest.approx(1 - 166 / 334)
    (finding,) = quality["findings"]
    assert finding["severity"] == "told"
    assert finding["count"] == 3
    assert finding["cases"][1].startswith("A: 50 of 336 bars are missing, 50 of them between 2024-01-05T03:00:00Z and")


def test_a_hole_that_a_symbol_shares_with_all_is_told_once(make_walk):
    stamps = pd.date_range("2024-01-01", periods=200, freq="h", tz="UTC").delete(range(60, 130))
    parameters, frame = IngestionParameters(), pd.concat([make_walk(stamps, "A"), make_walk(stamps, "B")])
    (finding,) = data_quality(frame, align_bars(frame, parameters), parameters)["findings"]
    assert finding["count"] == 1
    assert finding["cases"][0].startswith("all symbols: 70 of 200 bars are missing")


def test_crypto_beside_stocks_does_not_make_weekends_holes_of_stocks(make_walk):
    daily = pd.date_range("2024-01-01", periods=90, tz="UTC")
    frame = pd.concat([make_walk(daily, "BTC"), make_walk(daily[daily.day_of_week < 5], "SPY")])
    parameters = IngestionParameters()
    quality = data_quality(frame, align_bars(frame, parameters), parameters)
    assert [entry["missing_share"] for entry in quality["per_symbol"].values()] == [0.0, 0.0]
    assert quality["findings"] == []
