"""Values of bars: rounding, missing bars, texts, units."""

import numpy as np
import pandas as pd
import pytest
from tests.market.ingestion.conftest import PRICES, only

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.bars import align_bars, bars_hash
from sentio_kedro.market.ingestion.data_quality import data_quality
from sentio_kedro.schemas import Bars

DAYS = pd.bdate_range("2024-01-01", periods=30, tz="UTC")


def test_rounding_is_widened_counted_and_moves_no_close(make_walk, examine):
    frame = make_walk(DAYS)
    frame.loc[3, "high"] = frame.loc[3, ["open", "close"]].max() * (1 - 9e-7)
    frame.loc[4, "low"] = np.nextafter(frame.loc[4, ["open", "close"]].min(), np.inf)
    examined = examine(Bars.validate(frame))
    rule, count, cases = only(examined, "repaired")
    assert count == 2
    assert cases[0].endswith(": 9e-07 of the price")
    bars = align_bars(frame, IngestionParameters())
    assert bars.high[3, 0] == max(frame.loc[3, "open"], frame.loc[3, "close"])
    assert bars.low[4, 0] == min(frame.loc[4, "open"], frame.loc[4, "close"])
    np.testing.assert_array_equal(bars.close[:, 0], frame["close"])
    np.testing.assert_array_equal(examined.frame["high"], bars.high[:, 0])
    assert "widened" in rule


def test_larger_violations_are_refused_with_all_prices_and_their_size(make_walk, examine):
    frame = make_walk(DAYS)
    frame.loc[3, PRICES] = [100.0, 101.0, 99.0, 101.0002]
    rule, _, cases = only(examine(frame), "refused")
    assert cases == ("A 2024-01-04T00:00Z row 3 open=100, high=101, low=99, close=101.0002: 2e-06 of the price",)
    assert "drop the bar" in rule
    frame = make_walk(DAYS)
    frame["close"] *= 0.9
    rule, count, _ = only(examine(frame), "refused")
    assert count == 30
    assert "is `close` an adjusted close? then scale open, high and low by adjusted close / close" in rule


@pytest.mark.parametrize("volume", [np.nan, 0.0])
def test_rows_without_prices_are_missing_bars(volume, make_walk, examine):
    frame = make_walk(DAYS).assign(dividend=0.0)
    frame.loc[[5, 6], [*PRICES, "volume"]] = [np.nan] * 4 + [volume]
    examined = examine(Bars.validate(frame))
    assert only(examined, "repaired")[:2] == ("rows without prices were dropped as missing bars", 2)
    assert len(examined.frame) == 28
    frame.loc[5, "dividend"] = 0.5
    rule, _, cases = only(examine(frame.drop(index=6)), "refused")
    assert "would be lost" in rule
    assert cases == ("A 2024-01-08T00:00Z dividend=0.5",)


def test_bars_without_any_price_are_refused(make_walk, examine):
    frame = make_walk(DAYS)
    frame[[*PRICES, "volume"]] = np.nan
    (problem,) = examine(frame).refused
    assert (problem.rule, problem.count) == ("there must be bars: no row has prices", 30)


def test_rows_of_empty_texts_are_missing_bars_and_other_texts_are_not(make_walk, examine):
    frame = make_walk(DAYS).astype({name: object for name in (*PRICES, "volume")})
    frame.loc[5, [*PRICES, "volume"]] = "null"
    assert only(examine(frame), "repaired")[1] == 1
    assert bars_hash(frame) == bars_hash(Bars.validate(frame))
    frame.loc[5, [*PRICES, "volume"]] = "closed"
    assert "finite numbers" in only(examine(frame), "refused")[0]


def test_numbers_with_units_are_told_to_be_texts(make_walk, examine):
    frame = make_walk(DAYS).astype({"volume": object})
    frame.loc[2, "volume"] = "867.17K"
    rule, _, cases = only(examine(frame), "refused")
    assert cases == ("A 2024-01-03T00:00Z volume='867.17K' is a text",)
    assert "K, M, % or 1,000" in rule


def test_an_empty_volume_is_refused_with_what_to_write(make_walk, examine):
    frame = make_walk(DAYS)
    frame.loc[2, "volume"] = np.nan
    rule, _, cases = only(examine(frame), "refused")
    assert rule.startswith("volume is empty: write 0 where nothing was traded")
    assert cases == ("A 2024-01-03T00:00Z volume=nan",)


@pytest.mark.parametrize(
    ("column", "value", "unit"),
    [("spread", 12.0, "a fraction of the mid price"), ("spread", 0.5, "points"), ("funding", -0.1, "percent")],
)
def test_optional_columns_in_another_unit_are_refused(column, value, unit, make_walk, examine):
    rule, count, cases = only(examine(make_walk(DAYS).assign(**{column: value})), "refused")
    assert unit in rule
    assert count == 30
    assert cases[0] == f"A 2024-01-01T00:00Z {column}={value:g}"
    assert not examine(make_walk(DAYS).assign(**{column: value * 0.009})).problems


def test_a_split_of_zero_is_none(make_walk, examine):
    frame = make_walk(DAYS).assign(split=0.0, dividend=0.0)
    assert only(examine(frame), "told")[:2] == ("a split of 0 was read as none", 30)
    bars = align_bars(frame, IngestionParameters())
    assert (bars.split == 1.0).all()
    quality = data_quality(frame, bars, IngestionParameters(), examine(frame).findings)
    assert [one["rule"] for one in quality["findings"]] == ["a split of 0 was read as none"]
    assert len(quality["findings"][0]["cases"]) == 3
