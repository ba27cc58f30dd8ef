"""Columns by any case, in the index, under other names, or none at all."""

import pandas as pd
import pytest
from tests.market.ingestion.conftest import only

DAYS = pd.bdate_range("2024-01-01", periods=5, tz="UTC")


def test_the_case_of_names_and_levels_of_the_index_make_no_difference(make_walk, examine):
    frame = make_walk(DAYS)
    capitals = frame.rename(columns=lambda name: f" {name.title()} ").assign(**{"Adj Close": 1.0})
    for other in (
        capitals,
        frame.set_index(["symbol", "timestamp"]),
        frame.set_index("timestamp").rename_axis("Timestamp"),
    ):
        examined = examine(other)
        assert not examined.problems
        pd.testing.assert_frame_equal(examined.frame[list(frame)], frame)


def test_an_exact_name_is_taken_and_two_of_other_cases_are_refused(make_walk, examine):
    frame = make_walk(DAYS)
    assert examine(frame.assign(Close=1.0)).frame["close"].equals(frame["close"])
    twice = frame.rename(columns={"close": "Close"}).assign(CLOSE=1.0)
    assert only(examine(twice), "refused")[2] == ("column `close`",)


def test_missing_columns_are_named_with_what_they_may_be_and_the_line_that_renames(make_walk, examine):
    names = {"timestamp": "Date", "symbol": "tic", "open": "Open", "close": "Close", "volume": "Vol."}
    rule, count, cases = only(examine(make_walk(DAYS).rename(columns=names)), "refused")
    assert count == 3
    assert cases == (
        "column `timestamp`: is it `Date`?",
        "column `symbol`: is it `tic`?",
        "column `volume`: is it `Vol.`?",
    )
    assert "there are: Date, tic, open, high, low, close, Vol.;" in rule
    assert "`load_args: {header: 0, names: [timestamp, symbol, open, high, low, close, volume]}`" in rule


def test_a_level_of_the_index_is_a_likely_match_too(make_walk, examine):
    frame = make_walk(DAYS).set_index("timestamp").rename_axis("Date")
    assert only(examine(frame), "refused")[2] == ("column `timestamp`: is it `Date`?",)


def test_absent_volume_is_told_with_why_it_is_needed(make_walk, examine):
    assert (
        "orders are filled as a share of `volume`"
        in only(examine(make_walk(DAYS).drop(columns="volume")), "refused")[0]
    )


@pytest.mark.parametrize(
    ("delivered", "case"),
    [
        ({"a.csv": lambda: None, "b.csv": lambda: None}, "2 partition(s): a.csv, b.csv"),
        ([1], "a list"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_table_is_refused_by_a_sentence(delivered, case, examine):
    rule, _, cases = only(examine(delivered), "refused")
    assert cases == (case,)
    assert "table" in rule


def test_a_wide_table_is_told_apart(examine):
    columns = pd.MultiIndex.from_product([["Close", "Volume"], ["A", "B"]])
    assert "a wide table" in only(examine(pd.DataFrame([[1.0] * 4], columns=columns)), "refused")[0]
