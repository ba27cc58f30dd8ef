"""Moves of prices that are faults, and those that are news."""

import numpy as np
import pandas as pd
import pytest
from tests.market.ingestion.conftest import PRICES, only

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.data_quality import data_quality

DAYS = pd.bdate_range("2024-01-01", periods=60, tz="UTC")


def scaled(frame, rows, factor, columns=PRICES):
    """Multiply prices in some rows."""
    frame = frame.copy()
    frame.loc[rows, columns] *= factor
    return frame


@pytest.mark.parametrize(
    ("factor", "near"),
    [
        (1 / 20, ", near 20:1"),
        (0.5, ", near 2:1"),
        (2 / 3, ", near 3:2"),
        (1.5, ", near 2:3"),
        (10.0, ", near 1:10"),
        (0.3, ""),
    ],
)
def test_a_jump_is_told_with_its_ratio_and_kept_with_the_end_of_its_bar(factor, near, make_walk, examine):
    frame = scaled(make_walk(DAYS, volatility=1e-4), slice(30, None), factor)
    rule, _, (case,) = only(examine(frame), "told")
    ratio = frame["close"][30] / frame["close"][29]
    assert case.startswith("A 2024-02-12T00:00Z close=")
    assert case.endswith(f"ratio {ratio:.4g}{near}")
    assert "a split? add `split`, or use adjusted prices" in rule
    parameters = IngestionParameters(bar_label="start")
    (found,) = data_quality(frame, align_bars(frame, parameters), parameters)["price_breaks"]
    assert found == {"symbol": "A", "timestamp": "2024-02-13T00:00:00Z", "ratio": pytest.approx(ratio)}


def test_a_split_that_is_told_and_moves_of_a_wild_market_are_no_jumps(make_walk, examine):
    frame = scaled(make_walk(DAYS).assign(split=1.0), slice(30, None), 0.25)
    frame.loc[30, "split"] = 4.0
    assert not examine(frame).problems
    assert not examine(make_walk(DAYS, volatility=0.2)).problems


@pytest.mark.parametrize("split", [4.0, 0.1])
def test_a_split_by_which_no_price_moves_is_refused(split, make_walk, examine):
    frame = make_walk(DAYS).assign(split=np.nan)
    frame.loc[30, "split"] = split
    rule, _, cases = only(examine(frame), "refused")
    assert "are prices adjusted already? then leave `split` out" in rule
    assert cases[0].startswith(f"A 2024-02-12T00:00Z split={split:g}, close=")
    assert not examine(frame.assign(split=np.where(frame["split"].isna(), np.nan, 1.02))).problems  # too small to tell


@pytest.mark.parametrize(
    ("columns", "factor"),
    [(PRICES, 100.0), (PRICES, 0.1), (["open", "high"], 1000.0), (["open", "low"], 0.1)],
)
def test_a_lost_decimal_point_is_refused_with_row_value_and_neighbours(columns, factor, make_walk, examine):
    frame = make_walk(DAYS)
    rule, _, (case,) = only(examine(scaled(frame, 30, factor, columns)), "refused")
    assert "a lost decimal point?" in rule
    assert case.startswith("A 2024-02-12T00:00Z row 30 open=")
    assert case.endswith(f"beside it are {frame['close'][29]} and {frame['close'][31]}")


@pytest.mark.parametrize(("column", "factor"), [("high", 10.0), ("low", 1e-3)])
def test_a_high_or_low_alone_that_lost_its_point_is_told(column, factor, make_walk, examine):
    rule, _, (case,) = only(examine(scaled(make_walk(DAYS), 30, factor, [column])), "told")
    assert "ranges and stops read it" in rule
    assert case.startswith("A 2024-02-12T00:00Z row 30 open=")


def test_a_close_alone_that_lost_its_point_violates_the_order(make_walk, examine):
    assert "must lie in [low, high]" in only(examine(scaled(make_walk(DAYS), 30, 100.0, ["close"])), "refused")[0]


def test_a_crash_that_stays_is_told_and_not_refused(make_walk, examine):
    frame = scaled(make_walk(DAYS), slice(30, None), 0.1)
    frame.loc[30, ["open", "high"]] = frame.loc[29, "close"]
    assert only(examine(frame), "told")[1] == 1
