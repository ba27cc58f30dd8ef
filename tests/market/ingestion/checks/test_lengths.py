"""One length for all bars; sessions, holidays and holes are no other length."""

import numpy as np
import pandas as pd
import pytest
from tests.market.ingestion.conftest import only

HOURLY = pd.date_range("2024-01-01", periods=120, freq="h", tz="UTC")
DAILY = pd.bdate_range("2024-01-01", periods=60, tz="UTC")


def sessions(days, minutes, start="9h30min", stop="16h"):
    """Starts of the bars of sessions in New York, in UTC."""
    parts = [
        pd.date_range(day + pd.Timedelta(start), day + pd.Timedelta(stop), freq=f"{minutes}min", inclusive="left")
        for day in pd.bdate_range("2024-02-26", periods=days)  # daylight saving begins within
    ]
    return parts[0].append(parts[1:]).tz_localize("America/New_York").tz_convert("UTC")


@pytest.mark.parametrize("label", ["start", "end"])
@pytest.mark.parametrize("freq", ["5min", "4h", "D"])
def test_a_symbol_of_another_length_is_refused_with_both_lengths(freq, label, make_walk, examine):
    other = make_walk(pd.date_range("2024-01-01", periods=40, freq=freq, tz="UTC"), "B")
    rule, _, cases = only(examine(pd.concat([make_walk(HOURLY), other]), bar_label=label), "refused")
    assert cases == (
        {"5min": "B has bars of 5 minutes", "4h": "B has bars of 4 hours", "D": "B has bars of 1 day"}[freq],
    )
    assert "only A has bars of 1 hour: resample" in rule


def test_weekly_bars_beside_daily_ones_are_refused(make_walk, examine):
    weekly = make_walk(pd.date_range("2024-01-05", periods=12, freq="7D", tz="UTC"), "B")
    assert only(examine(pd.concat([make_walk(DAILY), weekly])), "refused")[2] == ("B has bars of 7 days",)


@pytest.mark.parametrize(
    "stamps",
    [
        DAILY,
        DAILY.delete([3, 4, 5, 20, 41]),
        HOURLY.delete(range(30, 80)),
        sessions(20, 5),
        sessions(20, 60),
        sessions(20, 60) + pd.Timedelta("1h"),
        sessions(20, 5, "4h", "20h"),
        sessions(10, 5).append(sessions(10, 5, stop="13h") + pd.Timedelta("21D")),  # half days
        pd.date_range("2020-01-31", periods=40, freq="ME", tz="UTC"),
        pd.date_range("2024-01-01", periods=120, freq="D", tz="Europe/Paris").tz_convert("UTC"),
    ],
)
def test_irregular_gaps_are_no_other_length(stamps, make_walk, examine):
    assert not examine(make_walk(stamps, volatility=0.001)).problems
    beside = make_walk(stamps[:: len(stamps) // 2 + 1], "B", volatility=0.001)  # two bars say no length
    assert not examine(pd.concat([make_walk(stamps, volatility=0.001), beside])).problems


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_symbol_that_trades_in_few_minutes_has_the_length_of_the_others(share, make_walk, examine):
    minutes = pd.date_range("2024-01-01", periods=3000, freq="min", tz="UTC")
    few = minutes[np.random.default_rng(0).random(3000) < share]
    frame = pd.concat([make_walk(minutes, volatility=0.001), make_walk(few, "B", volatility=0.001)])
    assert not examine(frame).problems


@pytest.mark.parametrize(("first", "every"), [("D", "1 day"), ("5min", "5 minutes")])
def test_a_change_of_the_length_is_refused_at_its_first_row(first, every, make_walk, examine):
    before = pd.date_range(end="2023-12-31", periods=30, freq=first, tz="UTC")
    rule, _, (case,) = only(examine(make_walk(before.append(HOURLY))), "refused")
    start = before[0].strftime("%Y-%m-%dT%H:%M")
    assert case == f"A {start}Z row 0: from here on a bar every {every}, elsewhere every 1 hour"
    assert "must not change" in rule


@pytest.mark.parametrize("at", ["0h", "24h"])
def test_bars_of_days_among_minutes_are_refused(at, make_walk, examine):
    minutes = make_walk(sessions(6, 30), volatility=0.002)
    days = minutes.groupby(minutes["timestamp"].dt.normalize() + pd.Timedelta(at)).agg(
        symbol=("symbol", "first"),
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
    )
    frame = pd.concat([days.reset_index(), minutes])
    (problem,) = examine(frame, bar_label="end" if at == "24h" else "start").refused
    assert problem.cases[0].startswith("A 2024-02-2")
    assert "row 0: its high, low and volume are those of the day's other bars of 30 minutes" in problem.cases[0]
    assert not examine(minutes).problems


def test_stated_minutes_that_overlap_are_refused(make_walk, examine):
    rule, _, cases = only(examine(make_walk(HOURLY), bar_minutes=90), "refused")
    assert cases == ("A has a bar every 1 hour",)
    assert "`ingestion.bar_minutes`" in rule
    assert not examine(make_walk(DAILY), bar_minutes=390).problems  # a session


def test_a_pause_of_all_symbols_of_a_year_is_refused_and_that_of_one_is_not(make_walk, examine):
    stamps = DAILY.append(DAILY + pd.Timedelta("364D"))
    rule, _, cases = only(examine(make_walk(stamps)), "refused")
    assert cases == ("A 2024-12-30T00:00Z row 60: no symbol has a bar in the 283 days since 2024-03-22T00:00",)
    assert "pause for longer than any exchange closes" in rule
    whole = pd.bdate_range(stamps[0], stamps[-1])
    assert not examine(pd.concat([make_walk(stamps), make_walk(whole, "B")])).problems


def test_thin_days_whose_one_trade_reaches_all_extremes_are_no_summaries(make_walk, examine):
    """An illiquid symbol: flat bars without volume, and a trade a day."""
    frame = make_walk(sessions(20, 7), volatility=0.002)
    traded = frame.groupby(frame["timestamp"].dt.normalize()).cumcount() == 3
    frame["volume"] = np.where(traded, 500.0, 0.0)
    level = frame["close"].where(traded).groupby(frame["timestamp"].dt.normalize()).transform("first")
    frame[["open", "high", "low", "close"]] = np.column_stack([level] * 4)
    assert not examine(frame).refused
