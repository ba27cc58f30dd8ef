"""Bars of a dated universe: members alone are seen; positions in others are only reduced, then settled."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import IngestionParameters, UniverseParameters
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars, aligned_from_frame, aligned_to_frame, bars_hash
from sentio_kedro.market.ingestion.membership import membership_quality, universe_label
from sentio_kedro.market.ingestion.problems import UniverseError
from sentio_kedro.market.ingestion.universe import read_universe
from sentio_kedro.market.regimes import market_return

DATED = IngestionParameters(universe="dated")
DAYS = 12


def daily(symbols: str, **closes: list[float]) -> pd.DataFrame:
    """Twelve days of bars of each symbol from 2020-01-01 on, which end at 21:00."""
    stamps = pd.date_range("2020-01-01 21:00", periods=DAYS, freq="D", tz="UTC")
    parts = []
    for place, symbol in enumerate(symbols):
        close = np.array(closes.get(symbol, 10.0 * (place + 1) + np.arange(DAYS) % 3))
        values = {"open": close, "high": close, "low": close, "close": close, "volume": 100.0}
        parts.append(pd.DataFrame({"timestamp": stamps, "symbol": symbol, **values}))
    return pd.concat(parts, ignore_index=True)


def table(*rows: tuple[Any, ...]) -> pd.DataFrame:
    names = ["symbol", "start", "end", "asset", "delisting_return"]
    return pd.DataFrame([[*row, *[None] * (5 - len(row))] for row in rows], columns=names)


def aligned(frame: pd.DataFrame, *rows: tuple[Any, ...], exit_bars: int = 2) -> AlignedBars:
    return align_bars(frame, DATED, table(*rows), UniverseParameters(exit_bars))


def rows_of(mask: Any, asset: int) -> list[int]:
    return np.flatnonzero(np.asarray(mask)[:, asset]).tolist()


def test_only_members_are_seen_and_leavers_have_bars_to_leave_by() -> None:
    bars = aligned(daily("AB"), ("A", "2019-01-01", ""), ("B", "2020-01-03", "2020-01-06"))
    leavers = bars.leavers
    assert leavers is not None
    assert rows_of(bars.present, 0) == list(range(DAYS))
    assert rows_of(bars.present, 1) == [2, 3, 4, 5]  # both ends are days of membership
    assert rows_of(leavers.bars.present, 1) == [6, 7]
    assert rows_of(leavers.settled, 1) == [8]
    assert rows_of(bars.outside, 1) == [0, 1, *range(6, DAYS)]
    assert not leavers.bars.present[:, 0].any()
    assert np.isnan(bars.close[6:, 1]).all()
    assert leavers.bars.close[6, 1] == 20.0


def test_bars_outside_add_no_row_and_change_no_value() -> None:
    universe = (("A", "2019-01-01", ""), ("B", "2020-01-03", "2020-01-05"))
    frame = daily("ABC")
    late = frame["timestamp"] > pd.Timestamp("2020-01-09", tz="UTC")
    frame = frame[(frame["symbol"] != "A") | (frame["timestamp"].dt.day != 6)]  # no member has a bar on the 6th
    late = late[frame.index]
    outside = ((frame["symbol"] == "B") & (late | (frame["timestamp"].dt.day < 3))) | (frame["symbol"] == "C")
    prices = ["open", "high", "low", "close"]
    wild = frame.assign(**{name: frame[name].where(~outside, 100.0 * frame[name]) for name in prices})
    bars, tame = aligned(wild, *universe), aligned(frame[~outside], *universe)
    assert bars.symbols == tame.symbols == ("A", "B")
    pd.testing.assert_frame_equal(aligned_to_frame(bars), aligned_to_frame(tame))
    assert len(bars.timestamps) == DAYS - 1


def test_an_asset_goes_on_under_its_next_ticker() -> None:
    frame = daily("ABC")
    bars = aligned(frame, ("A", "2019-01-01", "2020-01-06", "Z"), ("B", "2020-01-07", "", "Z"), ("C", "2019-01-01", ""))
    assert bars.symbols == ("C", "Z")
    assert bars.close[[5, 6], 1].tolist() == [12.0, 20.0]
    assert bars.leavers is not None
    assert not bars.leavers.bars.present.any()
    assert not bars.leavers.settled.any()


def test_a_return_of_the_table_is_paid_after_the_last_bar() -> None:
    frame = daily("AB")
    frame = frame[(frame["symbol"] == "A") | (frame["timestamp"].dt.day <= 4)]
    bars = aligned(frame, ("A", "2019-01-01", ""), ("B", "2019-01-01", "2020-01-04", None, -0.7), exit_bars=3)
    assert bars.leavers is not None
    assert rows_of(bars.leavers.settled, 1) == [4, 7]
    assert bars.leavers.delisting_return[4, 1] == -0.7
    inside = aligned(frame, ("A", "2019-01-01", ""), ("B", "2019-01-01", "", None, -1))
    assert inside.leavers is not None
    assert rows_of(inside.leavers.settled, 1) == [4]


def test_bars_that_end_inside_a_membership_are_told(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.concat([daily("AB"), daily("A").assign(timestamp=lambda x: x["timestamp"] + pd.Timedelta(60, "D"))])
    aligned(frame, ("A", "2019-01-01", ""), ("B", "2019-01-01", ""))
    assert "B 2020-01-12" in caplog.text
    assert "delisting_return" in caplog.text
    caplog.clear()
    aligned(frame, ("A", "2019-01-01", ""), ("B", "2019-01-01", "2020-01-10"))
    assert not caplog.text


def test_an_asset_that_comes_back_goes_on_at_the_price_that_it_left_at() -> None:
    prices = [10.0, 11.0, 10.0, 11.0, 500.0, 900.0, 1000.0, 1000.0, 1000.0, 1000.0, 1100.0, 1210.0]
    spans = (("A", "2019-01-01", ""), ("B", "2019-01-01", "2020-01-04"), ("B", "2020-01-10", ""))
    bars = aligned(daily("AB", B=prices), *spans)
    assert rows_of(bars.rejoins, 1) == [9]
    np.testing.assert_allclose(adjusted(bars).close[[3, 9, 10, 11], 1], [11.0, 11.0, 12.1, 13.31])
    np.testing.assert_allclose(market_return(bars)[9], 0.5 * np.log(bars.close[9, 0] / bars.close[8, 0]))
    split = bars.rows(slice(0, 11)).assets(slice(1, 2))
    assert rows_of(split.rejoins, 0) == [9]


def test_aligned_bars_are_read_as_they_were_saved() -> None:
    bars = aligned(daily("AB"), ("A", "2019-01-01", ""), ("B", "2019-01-01", "2020-01-04", None, -0.5))
    frame = aligned_to_frame(bars)
    again = aligned_from_frame(frame)
    pd.testing.assert_frame_equal(aligned_to_frame(again), frame)
    assert again.leavers is not None
    assert bars.leavers is not None
    np.testing.assert_array_equal(again.leavers.settled, bars.leavers.settled)
    np.testing.assert_array_equal(again.outside, bars.outside)


def test_days_are_of_the_zone_and_midnight_ends_the_day_before() -> None:
    frame = daily("AB")
    ends = frame["timestamp"].dt.normalize() + pd.Timedelta(1, "D")
    bars = aligned(frame.assign(timestamp=ends), ("A", "2019-01-01", ""), ("B", "2020-01-03", ""))
    assert rows_of(bars.present, 1)[0] == 2
    tokyo = IngestionParameters(universe="dated", timezone="Asia/Tokyo")
    naive = frame.assign(timestamp=pd.to_datetime(frame["timestamp"].dt.strftime("%Y-%m-%d 06:00")))
    given = table(("A", "2019-01-01", ""), ("B", "2020-01-03", ""))
    assert rows_of(align_bars(naive, tokyo, given).present, 1)[0] == 2


def test_what_the_table_holds_is_counted() -> None:
    frame, universe = (
        daily("ABC"),
        table(("A", "2019-01-01", ""), ("B", "2020-01-03", "2020-01-06"), ("X", "2019-01-01", "")),
    )
    quality = membership_quality(frame, align_bars(frame, DATED, universe), read_universe(universe))
    assert quality == {
        "intervals": 3, "assets": 2, "left": 1, "still_members": 2, "without_bars": ["X"], "without_membership": ["C"],
        "unseen_bars": 15, "members": {"2020-01-01": 1, "2020-01-12": 1},
    }  # fmt: skip


def test_the_table_is_part_of_the_hash_of_the_bars() -> None:
    frame = daily("A")
    hashes = {bars_hash(frame), bars_hash(frame, (), table(("A", "2019-01-01", ""))), bars_hash(frame, (), table())}
    assert len(hashes) == 3


def test_a_table_that_contradicts_parameters_or_bars_is_refused() -> None:
    frame, universe = daily("A"), table(("A", "2019-01-01", ""))
    with pytest.raises(ValueError, match=r"set `ingestion.universe: dated`"):
        align_bars(frame, IngestionParameters(), universe)
    with pytest.raises(ValueError, match=r"set `ingestion.missing: halt`"):
        align_bars(frame, IngestionParameters(universe="dated", missing="drop_bar"), universe)
    with pytest.raises(UniverseError, match=r"bars of \['A'\] from 2020-01-01 to 2020-01-12"):
        aligned(frame, ("A", "2021-01-01", ""))
    with pytest.raises(UniverseError, match="some bar must be of a member"):
        align_bars(frame, IngestionParameters(universe="dated", bar_label="start"), table(("B", "2019-01-01", "")))


def test_a_table_that_nobody_leaves_is_called_biased() -> None:
    late, left = ("B", "2020-01-03", ""), ("B", "2020-01-03", "2020-01-06")
    assert universe_label(aligned(daily("AB"), ("A", "2019-01-01", ""), late), "dated") == "survivorship_biased"
    assert universe_label(aligned(daily("AB"), ("A", "2019-01-01", ""), left), "dated") == "dated"
    assert universe_label(align_bars(daily("AB"), DATED), "dated") == "dated"
