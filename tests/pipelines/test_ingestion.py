"""The node of ingestion: what it logs, keeps and passes on."""

import logging

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import IngestionParameters, TradingParameters, UniverseParameters
from sentio_kedro.market.ingestion.bars import bars_hash
from sentio_kedro.pipelines.ingestion.nodes import align_bars
from sentio_kedro.schemas import Bars


def frame_of(rows=60):
    close = 100.0 + np.arange(rows) % 7
    return pd.DataFrame(
        {
            "timestamp": pd.bdate_range("2024-01-02", periods=rows, tz="UTC"),
            "symbol": "A",
            "open": close,
            "high": close + 1.0,
            "low": close - 1.0,
            "close": close,
            "volume": 5.0,
        }
    )


def aligned(frame, trading):
    return align_bars(frame, None, IngestionParameters(sessions_per_year=252), UniverseParameters(), trading)


def test_what_is_repaired_or_told_is_logged_once_and_kept_with_its_count(caplog):
    frame = frame_of()
    frame.loc[3, "high"] = frame.loc[3, "close"] * (1 - 1e-9)
    frame.loc[30:, ["open", "high", "low", "close"]] /= 20.0
    delivered = pd.concat([frame, frame.iloc[5:6]])[::-1]
    with caplog.at_level(logging.WARNING):
        bars, quality = aligned(Bars.validate(delivered), TradingParameters())
    (record,) = caplog.records
    assert record.getMessage().startswith("The bars are used, but:\n- ")
    assert {(one["severity"], one["count"]) for one in quality["findings"]} == {
        ("repaired", 1),
        ("told", 59),
        ("told", 1),
    }
    assert len(quality["findings"]) == 4
    for one in quality["findings"]:
        assert one["rule"] in record.getMessage()
    assert [one["timestamp"] for one in quality["price_breaks"]] == ["2024-02-13T00:00:00Z"]
    assert quality["bars_hash"] == bars_hash(delivered)  # of what was delivered
    assert (quality["rows"], quality["grid_bars"], len(bars.timestamps)) == (61, 60, 60)


def test_good_bars_say_nothing_and_holes_are_counted_against_the_calendar(caplog):
    frame = frame_of().drop(index=[9])  # Martin Luther King Day is 2024-01-15
    frame["timestamp"] += pd.Timedelta("21h")
    none, with_calendar = (aligned(frame, TradingParameters(calendar=calendar))[1] for calendar in (None, "XNYS"))
    assert not caplog.records
    assert none["expected_bars"] == 60
    assert with_calendar["expected_bars"] == 59
    assert none["findings"] == with_calendar["findings"] == []


def test_an_unknown_calendar_is_refused_in_ingestion():
    with pytest.raises(ValueError, match=r"`trading.calendar` must be a name of the package exchange_calendars"):
        aligned(frame_of(), TradingParameters(calendar="NYSE2"))
