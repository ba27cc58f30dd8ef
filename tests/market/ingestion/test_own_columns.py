"""Own columns of bars: at the end of a bar they hold what was known then, by each rule, and nothing later."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sentio_kedro.config import IngestionParameters, OwnColumn
from sentio_kedro.market.ingestion.bars import align_bars, aligned_from_frame, aligned_to_frame, bars_hash
from sentio_kedro.market.ingestion.own_columns import feed_columns
from sentio_kedro.market.ingestion.problems import BarsError

NAN = np.nan


def frame_of(vix, symbol="AAA", **columns):
    """Hourly bars that end at 10:00, 11:00 and so on."""
    ends = pd.date_range("2024-01-02T10:00", periods=len(vix), freq="h", tz="UTC")
    price = 100.0 + np.arange(len(vix))
    prices = {"open": price, "high": price + 1, "low": price - 1, "close": price, "volume": 5.0}
    return pd.DataFrame({"timestamp": ends, "symbol": symbol, **prices, "vix": vix, **columns})


def reading(known_at, **parameters):
    return IngestionParameters(columns={"vix": OwnColumn(known_at=known_at)}, **parameters)


def known(frame, known_at, **parameters):
    return align_bars(frame, reading(known_at, **parameters)).extra["vix"][:, 0].tolist()


def same(found, expected):
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("known_at", "expected"),
    [
        ("bar_end", [NAN, 2, 2, 4, 5, 6]),
        ("next_bar", [NAN, NAN, 2, 2, 4, 5]),
        ("15min", [NAN, NAN, 2, 2, 4, 5]),
        ("1h", [NAN, NAN, 2, 2, 4, 5]),
        ("61min", [NAN, NAN, NAN, 2, 2, 4]),
        ("0.5d", [NAN] * 6),
    ],
)
def test_a_value_is_known_from_its_time_on_and_held(known_at, expected):
    same(known(frame_of([NAN, 2.0, NAN, 4.0, 5.0, 6.0]), known_at), expected)


def test_bars_that_are_stamped_by_their_start_know_a_value_at_their_end():
    same(known(frame_of([1.0, 2.0, 3.0]), "bar_end", bar_label="start"), [1, 2, 3])
    same(known(frame_of([1.0, 2.0, 3.0]), "1h", bar_label="start"), [NAN, 1, 2])


def test_a_published_value_counts_from_its_publication_and_a_revision_from_its_own():
    published = ["2024-01-02T12:30Z", "2024-01-02T11:00Z", None, "2024-01-02T13:00Z", "2024-01-02T09:00Z"]
    frame = frame_of([1.0, 2.0, NAN, 4.0, 5.0], published=published)
    # 10:00 knows nothing, 11:00 the second value, 13:00 the one of 13:00 rather than that of 12:30; the last one is
    # stamped before its bar, which the feed delivers at 14:00.
    same(known(frame, "published"), [NAN, 2, 2, 4, 5])
    late = frame_of([1.0, 2.0, NAN, NAN], published=["2024-01-02T12:30Z", "2024-01-02T11:00Z", None, None])
    same(known(late, "published"), [NAN, 2, 2, 1])
    naive = late.assign(published=["2024-01-02T07:30", "2024-01-02T06:00", None, None])
    same(known(naive, "published", timezone="America/New_York"), [NAN, 2, 2, 1])


def test_symbols_know_their_own_values_and_what_a_bar_lacks_is_missing():
    frame = pd.concat([frame_of([1.0, NAN, 3.0]), frame_of([7.0, 8.0, 9.0], "BBB").drop(index=1)])
    bars = align_bars(frame, reading("next_bar"))
    same(bars.extra["vix"], [[NAN, NAN], [1, NAN], [1, 7]])
    whole = align_bars(frame, reading("next_bar", missing="drop_bar"))
    same(whole.extra["vix"], [[NAN, NAN], [1, 7]])  # dropped bars have told what they knew


@settings(max_examples=12, deadline=None)
@given(
    data=st.data(),
    known_at=st.sampled_from(["bar_end", "next_bar", "90min", "published"]),
    stop=st.integers(1, 12),
)
def test_what_is_known_depends_on_the_rows_so_far_alone(data, known_at, stop):
    values = data.draw(st.lists(st.sampled_from([NAN, 1.0, 2.0, 3.0]), min_size=12, max_size=12))
    lags = data.draw(st.lists(st.integers(-300, 300), min_size=12, max_size=12))
    frame = frame_of(values)
    frame["published"] = frame["timestamp"] + pd.to_timedelta(lags, unit="min")
    later = frame.copy()
    later.loc[stop:, "vix"] = 99.0
    same(known(later, known_at)[:stop], known(frame, known_at)[:stop])
    same(known(frame.iloc[:stop], known_at) if stop > 1 else [], known(frame, known_at)[:stop] if stop > 1 else [])


def test_columns_that_nothing_names_are_ignored():
    frame = frame_of([1.0, 2.0, 3.0])
    plain, kept = align_bars(frame, IngestionParameters()), align_bars(frame, reading("bar_end"))
    assert plain.extra == {}
    assert "vix" not in aligned_to_frame(plain)
    again = aligned_from_frame(aligned_to_frame(kept))
    same(again.extra["vix"], kept.extra["vix"])
    assert replace(again, extra={}).columns().keys() == plain.columns().keys()
    assert bars_hash(frame) == bars_hash(frame.drop(columns="vix"))
    own = feed_columns(reading("published"))
    assert own == ["published", "vix"]
    stamped = frame.assign(published="2024-01-02T11:00Z")
    other = stamped.assign(published="2024-01-02T12:00Z")
    digests = {bars_hash(frame), *(bars_hash(f, own) for f in (frame, frame.assign(vix=0.0), stamped, other))}
    assert len(digests) == 5


def refusal(frame, known_at):
    with pytest.raises(BarsError) as error:
        align_bars(frame, reading(known_at))
    return str(error.value)


def test_values_and_columns_that_cannot_be_read_are_named():
    frame = frame_of([1.0, np.inf, 3.0])
    assert "AAA 2024-01-02T11:00:00Z vix=inf" in refusal(frame, "bar_end")
    assert "AAA 2024-01-02T12:00:00Z vix='high'" in refusal(frame_of(["1", "", "high"]), "bar_end")
    assert "`vix`, the bars have ['timestamp'" in refusal(frame.drop(columns="vix"), "bar_end")
    message = refusal(frame, "nextbar")
    assert "`vix`: was `nextbar`" in message
    assert "bar_end" in message
    assert "next_bar" in message
    stampless = frame_of([1.0, 2.0, NAN], published=["2024-01-02T11:00Z", None, None])
    message = refusal(stampless, "published")
    assert "`published` must be a time wherever `vix` has a value" in message
    assert "AAA 2024-01-02T11:00:00Z published=" in message
    assert "12:00" not in message


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vix": {}}, r"`known_at` of \['vix'\] was not given; set it to bar_end .*next_bar .*15min or 1d"),
        ({"close": {"known_at": "bar_end"}}, r"named \['close'\], which bars use themselves"),
    ],
)
def test_when_a_value_is_known_must_be_said(columns, message):
    with pytest.raises(ValidationError, match=message):
        IngestionParameters(columns=columns)
