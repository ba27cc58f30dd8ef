"""Refusals of bars: keys that would be mistaken for others, and many wrong rows at once."""

import datetime as dt
import itertools
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import IngestionParameters
from sentio_kedro.config.symbols import LONGEST_SYMBOL
from sentio_kedro.market.ingestion.bar_checks import check_bars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.problems import BarsError

READ_AS_TEXT = "`load_args: {dtype: {symbol: str}, keep_default_na: false}`"


def frame_of(symbols=("A", "B"), rows=4):
    """Bars of half hours, symbol by symbol."""
    count = len(symbols) * rows
    close = 10.0 + np.arange(count, dtype=float)
    timestamps = pd.date_range("2020-01-01T00:00Z", periods=rows, freq="30min")
    return pd.DataFrame(
        {
            "timestamp": np.tile(timestamps, len(symbols)),
            "symbol": pd.Series([symbol for symbol in symbols for _ in range(rows)], dtype=object),
            "open": close - 0.5,
            "high": close + 1.0,
            "low": close - 1.0,
            "close": close,
            "volume": 5.0,
        }
    )


def problems_of(frame, parameters=None):
    """The refusal's rules and shown cases."""
    with pytest.raises(BarsError) as caught:
        check_bars(frame, parameters)
    return {problem.rule: problem for problem in caught.value.problems}, str(caught.value)


# ------------------------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("far", ["9999-12-31T00:00", "1500-01-01T00:00", "2262-04-12T00:00"])
def test_a_bar_beyond_the_range_is_refused_and_does_not_become_another(unit, far):
    frame = frame_of(("A",))
    frame["timestamp"] = frame["timestamp"].dt.as_unit(unit)
    frame.loc[3, "timestamp"] = pd.Timestamp(far, tz="UTC")
    for parameters in (None, IngestionParameters()):
        _, message = problems_of(frame, parameters)
        assert "in the years 1678 to 2261" in message
        assert f"A {far.replace('T', ' ')}:00+00:00 in row 3" in message
    with pytest.raises(BarsError):
        align_bars(frame, IngestionParameters())


@pytest.mark.parametrize("value", [dt.datetime(9999, 12, 31, tzinfo=dt.UTC), "9999-12-31T00:00Z", "31.12.9999"])
def test_a_bar_beyond_the_range_is_refused_among_objects(value):
    frame = frame_of(("A",))
    frame["timestamp"] = frame["timestamp"].astype(object)
    frame.loc[3, "timestamp"] = value
    assert "9999" in problems_of(frame)[1]


def test_a_naive_bar_at_the_edge_of_the_range_keeps_its_moment_in_every_zone():
    frame = frame_of(("A",), rows=2)
    frame["timestamp"] = ["2261-12-31T22:00", "2261-12-31T23:00"]
    bars = align_bars(frame, IngestionParameters(timezone="America/New_York"))
    assert bars.timestamps.astype(str).tolist() == ["2262-01-01T03:00:00.000000000", "2262-01-01T04:00:00.000000000"]


def test_bars_whose_distance_nanoseconds_cannot_hold_are_refused():
    frame = frame_of(("A",), rows=2)
    frame["timestamp"] = pd.to_datetime(["1700-01-01T00:00Z", "2200-01-01T00:00Z"])
    rules, message = problems_of(frame)
    assert "1700-01-01T00:00Z to 2200-01-01T00:00Z" in message
    assert "within 292 years" in message
    assert len(rules) == 1  # they are in order


def test_starts_whose_ends_lie_beyond_the_range_are_refused():
    frame = frame_of(("A",), rows=2)
    frame["timestamp"] = pd.to_datetime(["1980-01-01T00:00Z", "2200-01-01T00:00Z"])
    with pytest.raises(ValueError, match=r"that start at 2200-01-01T00:00:00Z must end in the years 1678 to 2261"):
        align_bars(frame, IngestionParameters(bar_label="start"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.datetimes(), min_size=1, max_size=3, unique=True), st.sampled_from(["s", "us"]), st.booleans())
def test_bars_at_any_times_are_on_the_grid_exactly_or_refused(times, unit, zoned):
    times = sorted(time.replace(microsecond=0) for time in times)
    frame = frame_of(("A",), rows=len(times))
    column = pd.Series(np.array(times, dtype=f"datetime64[{unit}]"))
    frame["timestamp"] = column.dt.tz_localize("UTC") if zoned else column
    allowed = all(1678 <= time.year <= 2261 for time in times) and len(set(times)) == len(times)
    if allowed and times[-1] - times[0] < dt.timedelta(days=292 * 365.24):
        bars = align_bars(frame, IngestionParameters(timezone="UTC"))
        assert bars.timestamps.tolist() == [
            int((time - dt.datetime(1970, 1, 1)).total_seconds()) * 10**9 for time in times
        ]
    else:
        problems_of(frame, IngestionParameters(timezone="UTC"))


# ---------------------------------------------------------------------------------------------------------- symbols


@pytest.mark.parametrize(
    "column",
    [
        [1, 1, 2, 2],
        [1.0, 1.0, 2.5, 2.5],
        [True, True, False, False],
        pd.to_datetime(["2020-01-01"] * 4),
        pd.Categorical([1, 1, 2, 2]),
        [b"A", b"A", b"B", b"B"],
    ],
)
def test_symbols_that_are_no_text_are_refused_with_how_to_read_them(column):
    frame = frame_of(rows=2).assign(symbol=column)
    rules, message = problems_of(frame)
    (problem,) = rules.values()
    assert problem.count == 4
    assert READ_AS_TEXT in message
    assert "np." not in message


def test_one_number_among_texts_is_refused_alone():
    frame = frame_of()
    frame.loc[5, "symbol"] = np.int64(600_000)
    (problem,) = problems_of(frame)[0].values()
    assert problem.cases == ("600000 2020-01-01T00:30Z in row 5",)
    frame.at[5, "symbol"] = ["B"]  # cannot even be compared
    (problem,) = problems_of(frame)[0].values()
    assert problem.cases == ("['B'] 2020-01-01T00:30Z in row 5",)


@pytest.mark.parametrize("kind", [object, "str", "string", "category"])
def test_symbols_may_be_any_kind_of_text_and_keep_their_zeros(kind):
    frame = frame_of(("000001", "NA"))
    bars = align_bars(frame.astype({"symbol": kind}), IngestionParameters())
    assert bars.symbols == ("000001", "NA")


def test_an_empty_symbol_is_told_with_what_to_do_for_one_called_na():
    frame = frame_of()
    frame.loc[5, "symbol"] = None
    rules, message = problems_of(frame)
    assert "keep_default_na: false" in message
    assert "empty 2020-01-01T00:30Z in row 5" in message
    assert len(rules) == 1


@pytest.mark.parametrize(
    ("symbol", "told"),
    [
        ("B ", "'B ' has blanks at its ends, 4 row(s)"),
        ("", "'' is blank, 4 row(s)"),
        ("B\x00C", r"'B\x00C' has characters that cannot be printed, 4 row(s)"),
        ("B" * 65, f"'{'B' * 65}' has 65 characters, 4 row(s)"),
    ],
)
def test_symbols_that_mislead_the_eye_are_refused(symbol, told):
    (problem,) = problems_of(frame_of(("A", symbol)))[0].values()
    assert problem.cases == (told,)


@pytest.mark.parametrize("other", ["aaa", "AAA ", "\tAaa"])
def test_symbols_that_differ_by_case_or_blanks_alone_are_told_together(other):
    _, message = problems_of(frame_of(("AAA", other, "BBB")))
    assert f"'AAA' and {other!r}" in message
    assert "'BBB'" not in message


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=70), min_size=1, max_size=3, unique=True))
def test_symbols_are_kept_exactly_or_refused(symbols):
    good = all(
        symbol == symbol.strip() and symbol.isprintable() and 0 < len(symbol) <= LONGEST_SYMBOL for symbol in symbols
    )
    distinct = all(a.strip().casefold() != b.strip().casefold() for a, b in itertools.combinations(symbols, 2))
    if good and distinct:
        assert align_bars(frame_of(symbols), IngestionParameters()).symbols == tuple(sorted(symbols))
    else:
        problems_of(frame_of(symbols), IngestionParameters())


# ------------------------------------------------------------------------------------------------- values and counts


def test_many_wrong_rows_are_counted_and_only_ten_are_rendered(monkeypatch):
    frame = frame_of(tuple(f"S{number:04}" for number in range(1000)), rows=20).assign(volume=-1.5)
    rendered = []
    look = pd.Series.iloc.fget
    monkeypatch.setattr(pd.Series, "iloc", property(lambda series: rendered.append(1) or look(series)))
    (problem,) = problems_of(frame)[0].values()
    assert problem.count == 20_000
    assert len(problem.cases) == 10
    assert problem.cases[0] == "S0000 2020-01-01T00:00Z volume=-1.5"
    assert len(rendered) < 100


def test_many_constant_symbols_are_told_in_their_order_of_the_file():
    symbols = tuple(f"S{number:04}" for number in reversed(range(2000)))
    frame = frame_of(symbols, rows=2)
    frame[["open", "high", "low", "close"]] = 7.25
    frame.loc[1, "high"] = 8.0  # the first moves
    (problem,) = problems_of(frame)[0].values()
    assert problem.count == 1999
    assert problem.cases[0] == "S1998 2020-01-01T00:00Z price=7.25"


def test_values_are_shown_in_full():
    frame = frame_of()
    frame.loc[1, ["high", "low"]] = [10.1234561, 10.1234569]
    told = "A 2020-01-01T00:30Z row 1 open=10.5, high=10.1234561, low=10.1234569, close=11: 0.08 of the price"
    assert told in problems_of(frame)[1]
    frame = frame_of().assign(timestamp=170_420_580_000_000 + np.arange(8))
    message = problems_of(frame)[1]
    assert "A 170420580000000 in row 0" in message


def test_dates_and_numbers_beyond_all_floats_are_no_prices():
    frame = frame_of()
    frame["volume"] = frame["timestamp"]
    (problem,) = problems_of(frame)[0].values()
    assert problem.count == 8
    assert problem.cases[0] == "A 2020-01-01T00:00Z volume=2020-01-01 00:00:00+00:00"
    for value in (10**400, [5.0], 5j, dt.date(2020, 1, 1)):
        frame["volume"] = pd.Series([5.0] * 7 + [value], dtype=object)
        (problem,) = problems_of(frame)[0].values()
        assert problem.count == 1
    frame["volume"] = pd.Series([5, 5.0, "5", Decimal(5), np.int8(5), np.float32(5), True, 5], dtype=object)
    assert align_bars(frame, IngestionParameters()).volume[:, 0].tolist() == [5.0] * 4


def test_columns_that_occur_twice_are_refused():
    frame = frame_of()
    assert "column `close`" in problems_of(pd.concat([frame, frame[["close"]]], axis=1))[1]
    notes = pd.DataFrame([["x", "y"]] * len(frame), columns=["note", "note"])
    check_bars(pd.concat([frame, notes], axis=1))


def test_an_optional_value_may_be_an_empty_text():
    frame = frame_of(("NA",)).assign(split=["", "2", "", "1"])  # as `keep_default_na: false` reads it
    bars = align_bars(frame, IngestionParameters())
    assert bars.split[:, 0].tolist() == [1.0, 2.0, 1.0, 1.0]
    frame["split"] = ["", "2", " ", "1"]
    assert "split=' '" in problems_of(frame)[1]
