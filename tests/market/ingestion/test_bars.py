"""Bars: refusal of bad ones, one grid, ends as stamps, nothing filled in."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bar_checks import BarsError, check_bars
from sentio_kedro.market.ingestion.bars import align_bars, aligned_from_frame, aligned_to_frame, bars_hash
from sentio_kedro.market.ingestion.data_quality import data_quality


def frame_of(symbols=("A", "B"), rows=4, start="2020-01-01T00:00Z", minutes=30):
    timestamps = pd.date_range(start, periods=rows, freq=f"{minutes}min")
    parts = []
    for number, symbol in enumerate(symbols):
        close = 10.0 + number + np.arange(rows, dtype=float)
        parts.append(
            pd.DataFrame(
                {
                    "timestamp": timestamps,
                    "symbol": symbol,
                    "open": close - 0.5,
                    "high": close + 1.0,
                    "low": close - 1.0,
                    "close": close,
                    "volume": 5.0,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def message_of(frame, parameters=None):
    with pytest.raises(BarsError) as caught:
        check_bars(frame, parameters)
    return str(caught.value)


def test_good_bars_pass_stacked_or_interleaved():
    frame = frame_of()
    check_bars(frame)
    check_bars(frame.sort_values(["timestamp", "symbol"]), IngestionParameters())


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("open", float("nan"), "finite"),
        ("volume", float("inf"), "finite"),
        ("close", "ten", "finite"),
        ("low", 0.0, "above 0"),
        ("high", 1.0, "high must not be below low"),
        ("close", 99.0, "lie in [low, high]"),
        ("open", 2.0, "lie in [low, high]"),
        ("volume", -1.0, "0 or more"),
        ("spread", -0.1, "0 or more"),
        ("split", -2.0, "split above 0"),
        ("dividend", float("inf"), "finite"),
        ("dividend", -1.0, "dividend must be 0 or more"),
        ("split", "two", "finite"),
        ("funding", float("inf"), "finite"),
        ("timestamp", "yesterday", "ISO 8601"),
    ],
)
def test_refusal_names_symbol_timestamp_value_and_remedy(column, value, rule):
    frame = frame_of().assign(spread=0.0, split=1.0, dividend=0.0, funding=0.0)
    frame["timestamp"] = frame["timestamp"].map(lambda timestamp: timestamp.isoformat())
    frame[column] = frame[column].astype(object)
    frame.loc[5, column] = value
    message = message_of(frame)
    assert rule in message
    assert "B " in message
    assert (f"{value:g}" if isinstance(value, float) else value) in message
    if column != "timestamp":
        assert "B 2020-01-01T00:30Z" in message


def test_all_problems_are_reported_at_once():
    frame = frame_of(rows=6)
    frame.loc[0, "open"] = np.nan
    frame.loc[1, "volume"] = -3.0
    frame.loc[7, "timestamp"] = frame.loc[6, "timestamp"]
    frame.loc[[9, 10], "timestamp"] = frame.loc[[10, 9], "timestamp"].to_numpy()
    with pytest.raises(BarsError) as caught:
        check_bars(frame)
    assert [problem.rule.split(":")[0] for problem in caught.value.problems] == [
        "timestamp is duplicated within its symbol with other values",
        "values must be finite numbers",
        "volume and spread must be 0 or more, split above 0",
    ]


def test_missing_columns_and_no_rows_are_refused():
    assert "column `volume`" in message_of(frame_of().drop(columns=["volume"]))
    assert "0 rows" in message_of(frame_of().iloc[:0])


def test_constant_prices_are_refused_per_symbol():
    frame = frame_of()
    frame.loc[frame.symbol == "B", ["open", "high", "low", "close"]] = 7.0
    message = message_of(frame)
    assert "never change" in message
    assert "B 2020-01-01T00:00Z price=7" in message
    assert "A 2020" not in message


def test_long_lists_are_cut_with_a_count():
    frame = frame_of(rows=40)
    frame["volume"] = -1.0
    message = message_of(frame)
    assert "(80 case(s))" in message
    assert "... and 70 more" in message
    assert len(message.splitlines()) == 13


def test_naive_stamps_need_a_configured_zone():
    frame = frame_of()
    frame["timestamp"] = frame["timestamp"].dt.tz_localize(None)
    check_bars(frame)  # the zone may be configured
    message = message_of(frame, IngestionParameters())
    assert "`ingestion.timezone`" in message
    bars = align_bars(frame, IngestionParameters(timezone="America/New_York"))
    assert bars.timestamps[0] == np.datetime64("2020-01-01T05:00", "ns")


def test_daylight_saving_keeps_utc_order_and_lost_hours_are_refused():
    frame = frame_of(("A",), rows=3, start="2020-10-30T16:00", minutes=60 * 24 * 2)  # clocks go back on 1 November
    bars = align_bars(frame, IngestionParameters(timezone="America/New_York"))
    assert [str(timestamp)[:16] for timestamp in bars.timestamps] == [
        "2020-10-30T20:00",
        "2020-11-01T21:00",
        "2020-11-03T21:00",
    ]
    frame.loc[1, "timestamp"] = pd.Timestamp("2020-11-01T01:30")  # happens twice
    assert "daylight saving" in message_of(frame, IngestionParameters(timezone="America/New_York"))


def test_text_stamps_mix_offsets_but_not_zoned_with_naive():
    frame = frame_of(("A",), rows=2)
    frame["timestamp"] = pd.Series(["2020-11-01T01:30-04:00", "2020-11-01T01:30-05:00"], dtype=object)
    bars = align_bars(frame, IngestionParameters())
    assert np.diff(bars.timestamps)[0] == np.timedelta64(60, "m")
    frame["timestamp"] = pd.Series(["2020-11-01T01:30", "2020-11-01T07:30Z"], dtype=object)
    assert "all with a zone or all without" in message_of(frame)
    frame["timestamp"] = [1, 2]
    assert "ISO 8601" in message_of(frame)


def test_bars_labelled_by_their_start_become_ends():
    frame = frame_of().drop(index=[1])  # a gap must not become the bar length
    bars = align_bars(frame, IngestionParameters(bar_label="start"))
    assert bars.timestamps[0] == np.datetime64("2020-01-01T00:30", "ns")
    bars = align_bars(frame, IngestionParameters(bar_label="start", bar_minutes=15))
    assert bars.timestamps[0] == np.datetime64("2020-01-01T00:15", "ns")
    assert align_bars(frame, IngestionParameters()).timestamps[0] == np.datetime64("2020-01-01T00:00", "ns")


def test_one_bar_per_symbol_cannot_tell_its_length():
    with pytest.raises(ValueError, match="bar_minutes"):
        align_bars(frame_of(rows=1), IngestionParameters(bar_label="start"))


def test_missing_bars_are_never_filled_in():
    frame = frame_of(rows=4).drop(index=[4, 6])  # B lacks its first and third bar
    halted = align_bars(frame, IngestionParameters(missing="halt"))
    assert halted.symbols == ("A", "B")
    np.testing.assert_array_equal(halted.close[:, 1], [np.nan, 12.0, np.nan, 14.0])
    np.testing.assert_array_equal(halted.present[:, 1], [False, True, False, True])
    np.testing.assert_array_equal(halted.held_close()[:, 1], [np.nan, 12.0, 12.0, 14.0])
    np.testing.assert_array_equal(halted.held_close()[:, 0], halted.close[:, 0])
    dropped = align_bars(frame, IngestionParameters(missing="drop_bar"))
    np.testing.assert_array_equal(dropped.close, [[11.0, 12.0], [13.0, 14.0]])


def test_drop_bar_without_common_stamps_is_refused():
    frame = pd.concat([frame_of(("A",)), frame_of(("B",), start="2021-01-01T00:00Z")])
    with pytest.raises(ValueError, match="drop_bar"):
        align_bars(frame, IngestionParameters(missing="drop_bar"))


def test_frame_round_trip_is_exact():
    frame = frame_of().drop(index=[5]).sort_values(["timestamp", "symbol"], ignore_index=True)
    bars = aligned_from_frame(frame)
    back = aligned_to_frame(bars)
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)
    again = aligned_from_frame(back)
    assert again.symbols == bars.symbols
    np.testing.assert_array_equal(again.timestamps, bars.timestamps)
    np.testing.assert_array_equal(again.volume, bars.volume)


def test_a_frame_that_is_not_of_aligned_bars_is_refused():
    frame = aligned_to_frame(align_bars(frame_of(), IngestionParameters()))
    with pytest.raises(ValueError, match=r"must be sorted by timestamp and symbol"):
        aligned_from_frame(frame.iloc[::-1])
    with pytest.raises(ValueError, match=r"must be sorted by timestamp and symbol"):
        aligned_from_frame(pd.concat([frame, frame.iloc[-1:]]))
    with pytest.raises(ValueError, match=r"lack the columns \['close'\]"):
        aligned_from_frame(frame.drop(columns="close"))
    assert aligned_from_frame(frame.iloc[:0]).close.shape == (0, 0)
    far = frame.assign(timestamp=frame["timestamp"].dt.as_unit("us") + pd.Timedelta(10**6, "D"))
    with pytest.raises(ValueError, match=r"`timestamp` must lie in the years 1678 to 2261"):
        aligned_from_frame(far)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)), st.permutations(range(7)))
def test_hash_ignores_order_of_rows_and_columns(rows, columns):
    frame = frame_of()
    assert bars_hash(frame.iloc[list(rows), list(columns)]) == bars_hash(frame)


def test_hash_sees_every_value():
    frame = frame_of()
    digests = {bars_hash(frame)}
    for column in ("open", "high", "low", "close", "volume"):
        digests.add(bars_hash(frame.assign(**{column: frame[column] * (1 + 1e-15)})))
    digests.add(bars_hash(frame.assign(symbol=frame.symbol.replace("B", "C"))))
    digests.add(bars_hash(frame.assign(timestamp=frame.timestamp + pd.Timedelta(1, "ns"))))
    assert len(digests) == 8
    assert bars_hash(frame.assign(note="x")) == bars_hash(frame)


def test_data_quality_counts_gaps():
    frame = frame_of(rows=6).drop(index=[6, 8, 9])  # B lacks row 0 (before its start), 2 and 3
    frame.loc[7, "volume"] = 0.0
    bars = align_bars(frame, IngestionParameters())
    quality = data_quality(frame, bars, IngestionParameters())
    assert quality["grid_bars"] == 6
    assert quality["bar_minutes"] == 30.0
    b = quality["per_symbol"]["B"]
    assert (b["bars"], b["missing_bars"], b["gaps"], b["longest_gap_bars"], b["zero_volume_bars"]) == (3, 2, 1, 2, 1)
    assert b["first"] == "2020-01-01T00:30:00Z"
    assert b["biggest_log_return"] == pytest.approx(np.log(15 / 12))


def test_a_split_is_no_move_of_the_market():
    frame = frame_of(rows=6).assign(split=1.0)
    here = (frame.symbol == "B") & (frame.timestamp >= frame.timestamp[3])
    frame.loc[here, ["open", "high", "low", "close"]] /= 10.0
    frame.loc[9, "split"] = 10.0
    quality = data_quality(frame, align_bars(frame, IngestionParameters()), IngestionParameters())
    assert quality["per_symbol"]["B"]["biggest_log_return"] == pytest.approx(np.log(12 / 11))
    plain = frame.drop(columns="split")
    quality = data_quality(plain, align_bars(plain, IngestionParameters()), IngestionParameters())
    assert quality["per_symbol"]["B"]["biggest_log_return"] == pytest.approx(np.log(10 * 13 / 14))


def test_optional_columns_are_aligned_and_what_is_not_said_is_neutral():
    frame = frame_of(rows=4).drop(index=[6])  # B lacks its third bar
    frame["dividend"] = [0.0, None, 0.25, 0.0, 0.5, 0.0, None]
    frame["split"] = pd.array([1.0, 2.0, None, 1.0, 1.0, None, 3.0], dtype="Float64")
    frame["funding"] = np.nan
    bars = align_bars(frame, IngestionParameters())
    np.testing.assert_array_equal(bars.dividend, [[0.0, 0.5], [0.0, 0.0], [0.25, np.nan], [0.0, 0.0]])
    np.testing.assert_array_equal(bars.split, [[1.0, 1.0], [2.0, 1.0], [1.0, np.nan], [1.0, 3.0]])
    np.testing.assert_array_equal(bars.funding, np.where(bars.present, 0.0, np.nan))
    assert bars.spread is None
    again = aligned_from_frame(aligned_to_frame(bars))
    assert set(again.columns()) == set(bars.columns())
    for name, column in bars.columns().items():
        np.testing.assert_array_equal(getattr(again, name), column)


def test_dropped_bars_hand_their_splits_and_dividends_on():
    frame = frame_of(rows=5).assign(dividend=0.0, split=1.0).drop(index=[6, 7])  # B lacks its second and third bar
    frame.loc[1, ["split", "dividend"]] = [2.0, 0.5]
    frame.loc[2, ["split", "dividend"]] = [5.0, 0.1]
    frame.loc[3, "dividend"] = 0.03
    bars = align_bars(frame, IngestionParameters(missing="drop_bar"))
    assert len(bars.timestamps) == 3
    np.testing.assert_array_equal(bars.split, [[1.0, 1.0], [10.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(bars.dividend[:, 0], [0.0, 0.5 / 5.0 + 0.1 + 0.03, 0.0])
    assert (bars.dividend[:, 1] == 0.0).all()


def test_aligned_bars_are_frozen():
    bars = align_bars(frame_of(), IngestionParameters())
    assert isinstance(bars, AlignedBars)
    with pytest.raises(AttributeError):
        bars.symbols = ("X",)
