"""Rows from bars that come late, twice, revised, in any order, or never."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.trader.clock import seconds_of, stamp_of
from sentio_kedro.trader.contract import RawBar
from sentio_kedro.trader.feeds.assembly import Assembler, every, in_sessions

BEGIN = "2026-03-06T12:00:00Z"
LENGTH, GRACE = 60.0, 20.0
SYMBOLS = ("AAA", "BBB")


def stamp(number):
    return stamp_of(seconds_of(BEGIN) + LENGTH * number)


def end(number):
    return seconds_of(stamp(number))


def bar(number, symbol="AAA", close=None, source="fake"):
    return RawBar(stamp(number), symbol, {"close": float(number) if close is None else close}, source, end(number))


def assembler(**changes):
    settings = {"symbols": SYMBOLS, "source": "fake", "expected": every(LENGTH), "after": BEGIN}
    return Assembler(**settings | {"grace_seconds": GRACE, "max_gap_bars": 5} | changes)


def both(number, **changes):
    return [bar(number, symbol, **changes) for symbol in SYMBOLS]


def shown(assembled):
    return [(row.stamp, {symbol: values["close"] for symbol, values in row.bars.items()}) for row in assembled.rows]


def kinds(assembled):
    return [note.kind for note in assembled.notes]


def test_a_stamp_is_released_when_all_symbols_came():
    rows = assembler()
    assert rows.take([bar(1, "BBB")], end(1)) == ((), ())
    assert rows.missing(stamp(1)) == ["AAA"]
    assert rows.due() == end(1) + GRACE
    released = rows.take([bar(1)], end(1) + 3)
    assert shown(released) == [(stamp(1), {"AAA": 1.0, "BBB": 1.0})]
    assert (released.rows[0].source, released.rows[0].arrived) == ("fake", end(1))
    assert rows.due() is None


def test_a_symbol_that_is_missing_after_the_grace_is_halted_and_then_late():
    rows = assembler()
    assert shown(rows.take([bar(1)], end(1) + GRACE - 1)) == []
    assert shown(rows.take([], end(1) + GRACE)) == [(stamp(1), {"AAA": 1.0})]
    late = rows.take([bar(1, "BBB", 7.0)], end(1) + GRACE + 1)
    assert (late.rows, kinds(late)) == ((), ["late_bar"])
    assert late.notes[0].body == {"stamp": stamp(1), "symbol": "BBB", "values": {"close": 7.0}}


def test_a_duplicate_is_dropped_and_a_revision_noted_with_both_values():
    rows = assembler()
    rows.take(both(1), end(1))
    assert rows.take(both(1), end(1) + 1) == ((), ())
    revised = rows.take([bar(1, "AAA", 1.5)], end(1) + 30)
    assert revised.rows == ()
    assert [note.body for note in revised.notes] == [
        {"stamp": stamp(1), "symbol": "AAA", "before": {"close": 1.0}, "after": {"close": 1.5}}
    ]
    assert rows.take([bar(1, "AAA", 1.5)], end(1) + 31) == ((), ())
    again = rows.take([bar(1, "AAA", 1.0)], end(1) + 32).notes[0]
    assert again.key != revised.notes[0].key


def test_a_revision_before_the_release_replaces_what_came():
    rows = assembler()
    rows.take([bar(1, "AAA", 9.0)], end(1))
    released = rows.take(both(1), end(1) + 2)
    assert (shown(released), kinds(released)) == ([(stamp(1), {"AAA": 1.0, "BBB": 1.0})], [])


def test_missing_values_are_no_revision():
    rows = assembler()
    rows.take(both(1, close=math.nan), end(1))
    assert rows.take(both(1, close=math.nan), end(1)) == ((), ())


def test_an_open_candle_is_passed_over_and_comes_again_when_it_is_closed():
    rows = assembler()
    assert rows.take(both(1, close=0.5), end(1) - 0.001) == ((), ())
    assert rows.due() is None
    assert shown(rows.take(both(1), end(1))) == [(stamp(1), {"AAA": 1.0, "BBB": 1.0})]


def test_what_was_missed_comes_in_order_before_the_newest_with_a_note_beyond_the_bound():
    rows = assembler(max_gap_bars=2)
    released = rows.take([*both(4), *both(2), *both(3), bar(1)], end(4))
    assert [row.stamp for row in released.rows] == [stamp(1), stamp(2), stamp(3), stamp(4)]
    assert list(released.rows[0].bars) == ["AAA"]
    assert kinds(released) == ["gap"]
    assert released.notes[0].body == {"after": BEGIN, "until": stamp(4), "missed": 3, "filled": 3}
    assert kinds(rows.take([*both(5), *both(6), *both(7)], end(7))) == []


def test_a_stamp_without_any_bar_is_no_row_but_counts_as_missed():
    rows = assembler()
    assert shown(rows.take([], end(9))) == []
    released = rows.take(both(9), end(9))
    assert [row.stamp for row in released.rows] == [stamp(9)]
    assert released.notes[0].body == {"after": BEGIN, "until": stamp(9), "missed": 8, "filled": 0}
    assert kinds(rows.take(both(3), end(9))) == ["late_bar", "late_bar"]


def test_a_grace_longer_than_a_bar_holds_back_the_bars_after_it():
    rows = assembler(grace_seconds=90.0)
    assert rows.take([*both(2), bar(1)], end(2)) == ((), ())
    assert [row.stamp for row in rows.take([], end(1) + 90).rows] == [stamp(1), stamp(2)]
    assert rows.take(both(4), end(4)) == ((), ())  # 3 may come yet
    assert [row.stamp for row in rows.take(both(3), end(4)).rows] == [stamp(3), stamp(4)]


def test_bars_that_were_known_before_are_passed_over():
    rows = assembler()
    assert rows.take([*both(0), *both(-5)], end(1)) == ((), ())


def test_memory_is_bounded():
    rows = assembler()
    for number in range(1, 301):
        rows.take(both(number), end(number))
    assert kinds(rows.take(both(101, close=0.0), end(300))) == ["revised_bar", "revised_bar"]
    assert rows.take(both(100, close=0.0), end(300)) == ((), ())


@pytest.mark.parametrize(
    ("strange", "message"),
    [
        (bar(1, "CCC"), "symbol must be one of AAA, BBB, was 'CCC' at 2026-03-06T12:01:00Z; ask the feed"),
        (bar(1, source="iex"), "source must be one of fake, was 'iex'"),
        (bar(0.5), "must end where a bar of this feed ends, was 2026-03-06T12:00:30Z .*`trader.feed.interval`"),
    ],
)
def test_a_bar_of_something_else_is_refused(strange, message):
    rows = assembler()
    with pytest.raises(ValueError, match=message):
        rows.take([strange], end(2))


def test_a_released_stamp_is_expected_and_half_of_one_is_not():
    rows = assembler()
    rows.take(both(2), end(2))
    assert [rows.expects(stamp(number)) for number in (0, 1, 1.5, 2, 2.5, 3)] == [True, True, False, True, False, True]


@pytest.mark.parametrize(
    ("length", "after", "until", "expected"),
    [
        (1800, "2024-03-01T20:30:00Z", "2024-03-04T15:10:00Z", ["2024-03-01T21:00:00Z", "2024-03-04T15:00:00Z"]),
        (1800, "2024-07-03T16:30:00Z", "2024-07-05T14:00:00Z", ["2024-07-03T17:00:00Z", "2024-07-05T14:00:00Z"]),
        (86400, "2024-03-08T00:00:00Z", "2024-03-12T00:00:00Z", ["2024-03-09T00:00:00Z", "2024-03-12T00:00:00Z"]),
        (1800, "2024-03-01T21:00:00Z", "2024-03-04T14:59:59Z", []),  # the weekend
        (3600, "2024-03-01T20:30:00Z", "2024-03-04T15:10:00Z", ["2024-03-01T21:00:00Z", "2024-03-04T15:00:00Z"]),
        (86400, "2024-07-03T00:00:00Z", "2024-07-06T00:00:00Z", ["2024-07-04T00:00:00Z", "2024-07-06T00:00:00Z"]),
    ],
)
def test_the_stamps_of_an_exchange_follow_its_sessions(length, after, until, expected):
    assert in_sessions(length, "XNYS")(after, until) == expected


def test_sessions_are_loaded_again_where_they_end():
    expected = in_sessions(86400, "XNYS")
    january = expected("2024-01-02T00:00:00Z", "2024-02-01T00:00:00Z")
    both = expected("2024-01-02T00:00:00Z", "2024-04-01T00:00:00Z")
    assert (len(january), len(both)) == (21, 61)
    assert expected("2023-12-30T00:00:00Z", "2024-01-04T00:00:00Z") == ["2024-01-03T00:00:00Z", "2024-01-04T00:00:00Z"]
    assert both[:21] == january


def test_a_market_that_never_closes_has_a_bar_each_length():
    assert every(3600.0)("2024-03-01T23:00:00Z", "2024-03-02T01:59:59Z") == [
        "2024-03-02T00:00:00Z",
        "2024-03-02T01:00:00Z",
    ]
    assert every(60.0)(stamp(3), stamp(3)) == []
    assert every(60.0)(stamp(3), stamp(1)) == []


DELIVERIES = st.lists(
    st.tuples(
        st.integers(1, 6),  # bar
        st.sampled_from(SYMBOLS),
        st.integers(-40, 150),  # seconds from its end
        st.booleans(),  # revised
    ),
    max_size=24,
)


def value(number, symbol, seconds, revised):
    """An open candle has the time of day as its close, a closed one its number, a revised one a quarter more."""
    return 1000.0 + seconds if seconds < 0 else number + SYMBOLS.index(symbol) / 2 + revised / 4


@settings(max_examples=200, deadline=None)
@given(deliveries=DELIVERIES, grace=st.sampled_from([0.0, 20.0, 70.0]), ticks=st.sets(st.integers(0, 600), max_size=9))
def test_any_order_loss_and_duplication_gives_increasing_rows_of_what_came_in_time(deliveries, grace, ticks):
    rows, released, late, revised = assembler(grace_seconds=grace), {}, 0, 0
    arrivals = sorted(
        (end(number) + seconds, number, symbol, seconds, new) for number, symbol, seconds, new in deliveries
    )
    times = sorted({at for at, *_ in arrivals} | {end(0) + tick for tick in ticks} | {end(20)})
    seen = {}
    for now in times:
        batch = [one[1:] for one in arrivals if one[0] == now]
        for number, symbol, seconds, new in batch:
            if seconds >= 0:
                known = released.get(number, {} if number < max(released, default=0) else None)
                if known is None:
                    seen.setdefault(number, {})[symbol] = value(number, symbol, seconds, new)
                elif symbol not in known:
                    late, known[symbol] = late + 1, value(number, symbol, seconds, new)
                    released[number] = known
                elif known[symbol] != value(number, symbol, seconds, new):
                    revised, known[symbol] = revised + 1, value(number, symbol, seconds, new)
        took = rows.take(
            [bar(number, symbol, value(number, symbol, seconds, new)) for number, symbol, seconds, new in batch], now
        )
        for row in took.rows:
            number = round((seconds_of(row.stamp) - end(0)) / LENGTH)
            assert number > max(released, default=0)
            assert end(number) <= now
            closes = {symbol: values["close"] for symbol, values in row.bars.items()}
            assert closes == seen.pop(number)
            assert len(closes) == 2 or now >= end(number) + grace
            released[number] = closes
        notes = kinds(took)
        late, revised = late - notes.count("late_bar"), revised - notes.count("revised_bar")
        assert (late, revised) == (0, 0)
        for number, symbols in seen.items():  # what is held back has a reason
            empty_before = number - 1 not in seen and number - 1 > max(released, default=0)
            waits = [end(number) + grace] if len(symbols) < 2 else []
            waits += [end(number - 1) + grace] if empty_before else []
            assert any(now < until for until in waits) or min(seen) < number
    assert not seen


@settings(max_examples=100, deadline=None)
@given(st.permutations([(number, symbol) for number in range(1, 5) for symbol in SYMBOLS]), st.data())
def test_bars_that_all_come_in_time_give_the_truth(order, data):
    rows, took = assembler(grace_seconds=1000.0, max_gap_bars=9), []
    while order:
        batch = [order.pop() for _ in range(min(len(order), data.draw(st.integers(1, 4))))]
        took += rows.take([bar(*one) for one in batch], end(4)).rows
    assert [(row.stamp, {s: v["close"] for s, v in row.bars.items()}) for row in took] == [
        (stamp(number), dict.fromkeys(SYMBOLS, float(number))) for number in range(1, 5)
    ]
