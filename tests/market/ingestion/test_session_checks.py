"""Bars against sessions, the year and the time of day: what makes figures wrong is refused, what is odd is told."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.config import IngestionParameters, TradingParameters
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.session_checks import (
    future_problem,
    placed_in_sessions,
    session_findings,
    sessions_per_year,
    shared_problem,
    year_problem,
)

XNYS = TradingParameters(calendar="XNYS")
WEEKDAYS = pd.bdate_range("2024-01-02", "2024-12-31", tz="UTC")


def bars_at(**times):
    """Aligned bars of symbols at the ``times`` of each; a dividend on the second bar of each."""
    frames = []
    for symbol, stamps in times.items():
        close = 100.0 + np.arange(len(stamps)) % 7
        values = {"open": close, "high": close + 1.0, "low": close - 1.0, "close": close, "volume": 10.0}
        dividend = np.where(np.arange(len(stamps)) == 1, 2.0, 0.0)
        frames.append(pd.DataFrame({"timestamp": stamps, "symbol": symbol, **values, "dividend": dividend}))
    return align_bars(pd.concat(frames), IngestionParameters())


def ends(stamps):
    return stamps.tz_localize(None).to_numpy().astype("datetime64[ns]")


def test_bars_outside_sessions_are_refused_dropped_or_kept():
    bars = bars_at(SPY=pd.date_range("2024-01-03 13:00", "2024-01-03 23:00", freq="h", tz="UTC"))
    with pytest.raises(
        ValueError, match=r"4 of 11 bars end outside .*13:00:00Z, .*`ingestion\.outside_session` to `drop`"
    ):
        placed_in_sessions(bars, IngestionParameters(), XNYS)
    dropped = placed_in_sessions(bars, IngestionParameters(outside_session="drop"), XNYS)
    assert np.datetime_as_string(dropped.timestamps[[0, -1]], unit="h").tolist() == ["2024-01-03T15", "2024-01-03T21"]
    assert dropped.dividend[0, 0] == 2.0  # of the dropped bar at 14:00
    assert placed_in_sessions(bars, IngestionParameters(outside_session="keep"), XNYS) is bars
    assert placed_in_sessions(bars, IngestionParameters(), TradingParameters()) is bars
    with pytest.raises(ValueError, match=r"`ingestion\.outside_session: drop` leaves no bar: all 2 end outside"):
        placed_in_sessions(bars.rows(slice(0, 2)), IngestionParameters(outside_session="drop"), XNYS)


def test_dates_that_name_their_session_are_not_its_end():
    bars = bars_at(SPY=pd.bdate_range("2024-03-01", "2024-05-24", tz="UTC").drop(pd.Timestamp("2024-03-29", tz="UTC")))
    with pytest.raises(ValueError, match=r"`ingestion\.bar_label` must be `start` for dates .* such as 2024-03-01"):
        placed_in_sessions(bars, IngestionParameters(bar_label="end"), XNYS)
    shifted = bars_at(SPY=pd.DatetimeIndex(bars.timestamps, tz="UTC") + pd.Timedelta(days=1))
    assert placed_in_sessions(shifted, IngestionParameters(bar_label="end"), XNYS) is shifted


@pytest.mark.parametrize(
    ("stamps", "calendar", "expected"),
    [
        (WEEKDAYS, None, 260.9),
        (WEEKDAYS, "XNYS", 252.0),
        (pd.date_range("2024-01-05", periods=60, freq="7D", tz="UTC"), None, 52.18),
        (pd.date_range("2024-01-05", periods=60, freq="7D", tz="UTC"), "XNYS", 52.18),
        (pd.date_range("2024-01-01", periods=6_000, freq="h", tz="UTC"), None, 365.25),
        (pd.date_range("2020-01-31", periods=60, freq="ME", tz="UTC"), None, 12.0),
        (WEEKDAYS[:100], None, None),
        (WEEKDAYS[:30], "XNYS", 250.0),
        (pd.bdate_range("2019-04-10", "2019-05-16", tz="UTC"), "XTKS", 242.0),  # ten days of holidays
    ],
)
def test_sessions_a_year_follow_from_the_bars_or_the_calendar(stamps, calendar, expected):
    assert sessions_per_year(ends(stamps), calendar) == (
        None if expected is None else pytest.approx(expected, rel=1e-2)
    )


@given(st.integers(30, 200), st.integers(10, 400))
def test_a_hole_changes_no_sessions_a_year(before, length):
    days = np.arange(260)
    days[before:] += length
    stamps = np.datetime64("2024-01-01", "ns") + days * np.timedelta64(1, "D")
    assert sessions_per_year(stamps, None) == pytest.approx(365.25)


def test_another_year_than_the_bars_have_is_told_and_a_wrong_one_refused():
    daily, weekly = ends(WEEKDAYS), ends(pd.date_range("2010-01-01", periods=120, freq="7D", tz="UTC"))
    assert year_problem(daily, 252.0, "XNYS") is None
    assert year_problem(daily, 252.0, None) is None
    assert "is 365, but the bars have 260.9 sessions a year: Sharpe ratios would be 1.18 times" in year_problem(
        daily, 365.0, None
    )
    with pytest.raises(
        ValueError, match=r"is 365, but `trading\.calendar` XNYS has 25\d\.\d sessions a year.*set it to 25"
    ):
        year_problem(daily, 365.0, "XNYS")
    with pytest.raises(
        ValueError, match=r"is 252, but the bars have 52\.2 .* would be 2\.20 times what they are; set it to 52"
    ):
        year_problem(weekly, 252.0, None)


def test_symbols_that_hardly_meet_are_told_and_ones_that_never_do_refused():
    hours = pd.date_range("2024-01-03 15:00", periods=6, freq="h", tz="UTC")
    minutes = pd.date_range("2024-01-03 15:00", "2024-01-03 20:00", freq="5min", tz="UTC")
    assert shared_problem(bars_at(A=hours, B=hours)) is None
    assert shared_problem(bars_at(A=hours)) is None
    assert shared_problem(bars_at(A=hours[:3], B=hours[3:])) is None  # one after the other
    assert "Only 9.8% of the timestamps" in shared_problem(bars_at(A=minutes[[*range(5), -1]], B=minutes))
    with pytest.raises(ValueError, match=r"Only 0\.0%.*A 21:00; B 00:00\. Give all symbols the same timestamps"):
        session_findings(
            bars_at(A=WEEKDAYS + pd.Timedelta(hours=21), B=WEEKDAYS),
            IngestionParameters(sessions_per_year=252.0),
            TradingParameters(),
        )


def test_bars_that_have_not_ended_are_counted():
    stamps = ends(pd.date_range("2024-01-03 15:00", periods=3, freq="h", tz="UTC"))
    assert future_problem(stamps, stamps[-1]) is None
    assert future_problem(stamps, stamps[0]).startswith(
        "2 bar(s) have not ended: the newest ends at 2024-01-03T17:00:00Z"
    )
