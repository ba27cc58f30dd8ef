"""The table of a dated universe: both forms, and what is refused with row and remedy."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.market.ingestion.problems import UniverseError
from sentio_kedro.market.ingestion.universe import OPEN, read_universe


def csv(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def days(intervals: pd.DataFrame) -> list[tuple[str, str, str]]:
    ends = [None if end == OPEN else str(np.datetime64(end, "D")) for end in intervals["end"].to_numpy()]
    starts = [str(np.datetime64(start, "D")) for start in intervals["start"].to_numpy()]
    return list(zip(intervals["asset"], starts, ends, strict=True))


def test_intervals_are_read_whatever_the_case_and_order_of_their_columns() -> None:
    table = csv(
        "End,Symbol,Start,asset,delisting_return\n2022-06-08,FB,2013-12-23,META,\n,META,2022-06-09,,\n2012-01-03,EK,2010-01-01,,-1\n"
    )
    found = read_universe(table)
    assert days(found) == [
        ("EK", "2010-01-01", "2012-01-03"),
        ("META", "2013-12-23", "2022-06-08"),
        ("META", "2022-06-09", None),
    ]
    assert found["symbol"].tolist() == ["EK", "FB", "META"]
    np.testing.assert_array_equal(found["delisting_return"], [-1.0, np.nan, np.nan])


def test_dates_may_be_dates_already() -> None:
    table = pd.DataFrame({"symbol": ["A"], "start": pd.to_datetime(["2015-01-05"]), "end": [pd.NaT]})
    assert days(read_universe(table)) == [("A", "2015-01-05", None)]


@pytest.mark.parametrize("separator", [" ", ",", ", "])
def test_a_snapshot_holds_until_the_next(separator: str) -> None:
    lists = [["A", "B"], ["A"], ["C", "A", "B"]]
    table = pd.DataFrame({"date": ["2015-01-31", "2015-02-28", "2015-03-31"], "tickers": map(separator.join, lists)})
    expected = [
        ("A", "2015-01-31", None),
        ("B", "2015-01-31", "2015-02-27"),
        ("B", "2015-03-31", None),
        ("C", "2015-03-31", None),
    ]
    assert days(read_universe(table)) == expected
    assert days(read_universe(table.iloc[::-1])) == expected  # newest first


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sets(st.sampled_from("ABCD"), min_size=1), min_size=1, max_size=12))
def test_snapshots_and_the_intervals_that_they_mean_agree(held: list[set[str]]) -> None:
    dates = np.datetime64("2020-01-01") + 7 * np.arange(len(held))
    snapshots = pd.DataFrame({"date": dates.astype(str), "symbols": [" ".join(sorted(names)) for names in held]})
    rows = []
    for symbol in "ABCD":
        for place, names in enumerate(held):
            if symbol in names and (place == 0 or symbol not in held[place - 1]):
                later = [k for k in range(place, len(held)) if symbol not in held[k]]
                end = str(dates[later[0]] - 1) if later else ""
                rows.append({"symbol": symbol, "start": str(dates[place]), "end": end})
    assert days(read_universe(snapshots)) == days(read_universe(pd.DataFrame(rows)))


@pytest.mark.parametrize(
    ("text", "row", "remedy"),
    [
        ("symbol,start,end\nA,2015-01-05,2015-01-01\n", "row 0: A 2015-01-05 to 2015-01-01", "correct the dates"),
        ("symbol,start,end\nA,2015-01-05,\nA,2016-01-05,\n", "row 1: A from 2016-01-05 is in row 0", "end the earlier"),
        ("symbol,asset,start,end\nA,X,2015-01-05,\nB,X,2016-01-05,\n", "row 1: X from 2016-01-05", "of one asset"),
        ("symbol,start,end\nA,01/02/2015,\n", "row 0: '01/02/2015'", "year-month-day"),
        ("symbol,start,end\nA,Jan 2015,\n", "row 0: 'Jan 2015'", "year-month-day"),
        ("symbol,start,end\nA,20150105,\n", "row 0: 20150105", "year-month-day"),
        ("symbol,start,end\nA,2015-01-05 09:30,\n", "row 0: '2015-01-05 09:30'", "without a time of day"),
        ("symbol,start,end\nA,,2015-01-05\n", "row 0: empty", "the first day of membership"),
        ("symbol,start,end\n700,2015-01-05,\n", "row 0: 700", "dtype: {symbol: str}"),
        ("symbol,start,end\nNA,2015-01-05,\n", "row 0: empty", "keep_default_na: false"),
        ("symbol,start,end,delisting_return\nA,2015-01-05,,-1.5\n", "row 0: -1.5", "at least -1"),
        ("symbol,start,end,delisting_return\nA,2015-01-05,,half\n", "row 0: 'half'", "at least -1"),
        ("date,symbols\n2015-01-05,A\n2015-01-05,B\n", "row 1: 2015-01-05", "keep one snapshot"),
        ("date,symbols\n2015-01-05,\n", "row 0: empty", "drop the row"),
        ("ticker,from,to\nA,2015-01-05,\n", "1 rows of columns ['from', 'ticker', 'to']", "name the columns"),
        ("symbol,start,end\n", "0 rows", "name the columns"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_right_is_refused(text: str, row: str, remedy: str) -> None:
    with pytest.raises(UniverseError) as error:
        read_universe(csv(text))
    assert row in str(error.value)
    assert remedy in str(error.value)
    assert str(error.value).startswith("The table `universe` has 1 problem(s)")
