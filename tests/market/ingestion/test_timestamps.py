"""Arithmetic on the ends of bars."""

import numpy as np
import pytest

from sentio_kedro.market.ingestion.timestamps import (
    bars_per_session,
    closing_days,
    days_since_previous,
    most_common_gap,
    periods_per_year,
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
