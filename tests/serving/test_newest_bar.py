"""The newest bar must be complete, recent if that is asked for, and as long as those before."""

import numpy as np
import pytest

from sentio_kedro.serving.newest_bar import duration, require_newest, require_same_feed

HOURS = np.datetime64("2024-01-03T00:00", "ns") + np.arange(10) * np.timedelta64(1, "h")


def test_a_bar_that_has_not_ended_is_refused():
    with pytest.raises(
        ValueError, match=r"1 bar\(s\) have not ended: the newest ends at 2024-01-03T09:00:00Z, now it is"
    ):
        require_newest(HOURS, HOURS[-2], None)


def test_the_age_of_the_newest_bar_is_told_and_a_stale_one_refused():
    now = HOURS[-1] + np.timedelta64(3, "h")
    assert require_newest(HOURS, now, None) == "The newest bar ended at 2024-01-03T09:00:00Z, 3.0 hours ago."
    assert require_newest(HOURS, now, 180.0).endswith("ago.")
    with pytest.raises(ValueError, match=r"3\.0 hours ago; `max_age` allows 119 minutes: fetch newer bars"):
        require_newest(HOURS, now, 119.0)
    assert duration(2 * 1440.0) == "2.0 days"


def test_bars_of_another_length_or_after_a_gap_are_refused():
    require_same_feed(HOURS, 4, None)
    nearer = np.insert(HOURS, 8, HOURS[7] + np.timedelta64(5, "m"))
    with pytest.raises(ValueError, match=r"The bar at 2024-01-03T07:05:00Z ends 5 minutes after .* at least 60"):
        require_same_feed(nearer, 4, None)
    holey = np.delete(HOURS, [6, 7])
    with pytest.raises(
        ValueError, match=r"180 minutes have passed, at most 60 may.*set `signals\.longest_gap` \(minutes\)"
    ):
        require_same_feed(holey, 4, None)
    require_same_feed(holey, 4, 180.0)
    require_same_feed(holey, 6, None)  # the history has such a gap
