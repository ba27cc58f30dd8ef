"""Accounts: times that nanoseconds hold, and symbols that the agents trade."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sentio_kedro.config import TradingParameters
from sentio_kedro.serving.accounts import Account, account_records, row_of
from sentio_kedro.serving.model import read_account


@settings(max_examples=50, deadline=None)
@given(st.datetimes(timezones=st.none() | st.just(dt.timezone(dt.timedelta(hours=-12)))))
def test_a_time_is_kept_exactly_or_refused(time):
    utc = time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time
    since = utc - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    nanoseconds = (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
    if abs(nanoseconds) < 2**63:
        assert Account(cash=1.0, time=time).bar.view(np.int64) == nanoseconds
    else:
        with pytest.raises(ValidationError, match="must lie in the years 1678 to 2261"):
            Account(cash=1.0, time=time)


def test_a_time_beyond_the_range_is_no_bar_of_the_history():
    """9999-12-31 in microseconds wraps around to 1816-03-29."""
    bars = np.array(["1816-03-29T05:56:08.066277376", "2020-01-01"], dtype="datetime64[ns]")
    with pytest.raises(ValueError, match=r"`time`: Value error, `time` must lie in the years 1678 to 2261.*9999-12-31"):
        row_of(read_account('{"cash": 1, "time": "9999-12-31T00:00:00Z"}'), bars)
    assert row_of(read_account('{"cash": 1, "time": "2020-01-01T00:00:00Z"}'), bars) == 1


@pytest.mark.parametrize("field", ["shares", "bars_held", "in_flight", "entry_price", "trades_today", "opened_today"])
def test_a_symbol_of_another_case_is_told_with_the_one_that_it_may_mean(field):
    given = {"opened_today": ["aaa"], "in_flight": {"aaa": [1.0]}}.get(field, {"aaa": 1})
    account = Account(cash=1.0, **{field: given})
    with pytest.raises(ValueError, match=rf"`account.{field}` names \['aaa'\] \(perhaps 'AAA' is meant by 'aaa'\)"):
        account_records([account], ("AAA", "BBB"), np.ones(2), TradingParameters())
