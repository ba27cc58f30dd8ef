"""Frames of a journal that is written by hand, with exact answers."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from sentio_kedro.trader import events
from sentio_kedro.trader.contract import BarRow, Decision
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.frames import FRAMES, frame_of
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.orders import CorporateAction, Fill, Order

ONE, TWO, THREE = "2026-01-02T15:00:00Z", "2026-01-02T15:30:00Z", "2026-01-05T15:00:00Z"


def decision(bar: str, equity: float, cash: float, orders: dict[str, float], shares: dict[str, float]) -> Event:
    made = Decision(
        bar=bar,
        orders=orders,
        targets={"A": 0.5, "B": -0.25},
        actions={"A": 2, "B": -1},
        legal={"A": [True, False, True], "B": [True, True, True]},
        closes={"A": 100.0, "B": 50.0},
        equity=equity,
        shares=shares,
        cash=cash,
        account={},
    )
    return events.decided(made, 10.0)


def order(id_: str, bar: str, symbol: str, shares: float, price: float) -> Order:
    return Order(id_, bar, symbol, shares, price)


def bar(stamp: str, source: str = "iex") -> Event:
    bars = {"A": dict(zip(("open", "high", "low", "close", "volume"), (1.0, 4.0, 0.5, 2.0, 10.0), strict=True))}
    return events.bar(BarRow(stamp, bars, source, 1_767_366_001.5), 10.0)


@pytest.fixture
def frames(path: Path) -> dict[str, pd.DataFrame]:
    written: Sequence[Event] = [
        bar(ONE),
        decision(ONE, 1_000.0, 1_000.0, {"A": 5.0, "B": -4.0}, {}),
        events.intended(order("a", ONE, "A", 5.0, 100.0), 11.0),
        events.denied(order("b", ONE, "B", -4.0, 50.0), "gross", 1.5, 1.0, 11.0),
        events.sent("a", 1, 12.0),
        events.accepted("a", "v1", 13.0),
        events.filled(Fill("f1", "a", "A", 2.0, 101.0, 0.25, 1_767_366_002.5), 14.0),
        events.filled(Fill("f2", "a", "A", 3.0, 102.0, 0.5, 1_767_366_003.5), 14.0),
        events.booked(CorporateAction("t1", "transfer", "", 200.0, 1.0, 14.0), 14.0),
        events.booked(CorporateAction("d1", "dividend", "A", 5.0, 1.0, 14.0), 14.0),
        events.turned("reducing", "r1", "news", 15.0),
        bar(TWO),
        decision(TWO, 900.0, 700.0, {"A": -5.0, "B": 2.0}, {"A": 5.0, "B": 0.0}),
        events.intended(order("c", TWO, "A", -2.0, 100.0), 16.0),
        events.intended(Order("c2", TWO, "A", -3.0, 100.0, leg=1), 16.0),
        events.intended(order("d", TWO, "B", 2.0, 50.0), 16.0),
        events.accepted("c", "v2", 17.0),
        events.refused("d", "too small", 17.0),
        events.filled(Fill("f3", "c", "A", -1.0, 99.0, 0.0, 18.0, {"commission": 0.1, "spread": 0.2}), 18.0),
        events.cancelled("c", "expired", -1.0, 19.0),
        events.filled(Fill("f5", "c2", "A", -3.0, 99.0, 0.0, 18.5), 19.0),
        events.filled(Fill("f4", "", "B", 1.0, 50.0, 0.0, 20.0), 20.0),
        events.turned("active", "r2", "looked at it", 20.0),
        decision(THREE, 1_100.0, 1_100.0, {}, {"A": -1.0, "B": 0.0}),
    ]
    with Journal(path) as journal:
        journal.append(written)
    with JournalReader(path) as reader:
        return {name: frame_of(reader, name) for name in FRAMES}


def stamps(*ends: str) -> list[pd.Timestamp]:
    return [pd.Timestamp(end) for end in ends]


def test_accounts_have_a_row_for_each_decision(frames: dict[str, pd.DataFrame]) -> None:
    expected = pd.DataFrame(
        {
            "stamp": stamps(ONE, TWO, THREE),
            "equity": [1_000.0, 900.0, 1_100.0],
            "cash": [1_000.0, 700.0, 1_100.0],
            "gross_exposure": [0.0, 500.0 / 900.0, 100.0 / 1_100.0],
            "drawdown": [0.0, 1.0 - 0.9, 0.0],
            "transfers": [0.0, 200.0, 0.0],
            "orders": [2, 2, 0],
            "mode": ["active", "reducing", "active"],
        }
    )
    pd.testing.assert_frame_equal(frames["accounts"], expected)


def test_trades_have_a_row_for_each_fill_with_its_slippage(frames: dict[str, pd.DataFrame]) -> None:
    trades = frames["trades"].set_index("id")
    assert trades["order"].tolist() == ["a", "a", "c", "c2", ""]
    assert trades["shares"].tolist() == [2.0, 3.0, -1.0, -3.0, 1.0]
    assert trades["fee"].tolist() == [0.25, 0.5, 0.0, 0.0, 0.0]
    assert trades["commission"].tolist() == [0.0, 0.0, 0.1, 0.0, 0.0]
    assert trades["impact"].tolist() == [0.0] * 5
    assert trades["at"].iloc[0] == pd.Timestamp("2026-01-02T15:00:02.5Z")
    assert trades["bar"].tolist() == stamps(TWO, TWO, THREE, THREE, THREE)
    assert trades["decided"].tolist()[:3] == stamps(ONE, ONE, TWO)
    assert trades["reference_price"].tolist()[:3] == [100.0, 100.0, 100.0]
    assert trades["slippage_bps"].tolist()[:3] == pytest.approx([100.0, 200.0, 120.0])  # bought dear, sold cheap
    assert trades.loc["f4", ["decided", "reference_price", "slippage_bps"]].isna().all()


def test_decisions_tell_what_became_of_each_order(frames: dict[str, pd.DataFrame]) -> None:
    decisions = frames["decisions"]
    assert list(zip(decisions["stamp"], decisions["symbol"], strict=True)) == [
        (stamp, symbol) for stamp in stamps(ONE, TWO, THREE) for symbol in "AB"
    ]
    assert decisions["action"].tolist() == [2, -1] * 3
    assert decisions["target"].tolist() == [0.5, -0.25] * 3
    assert decisions["legal"].tolist() == ["101", "111"] * 3
    assert decisions["order"].tolist() == [5.0, -4.0, -5.0, 2.0, 0.0, 0.0]
    assert decisions["filled"].tolist() == [5.0, 0.0, -4.0, 0.0, 0.0, 0.0]
    assert decisions["outcome"].tolist() == [
        "filled",
        "denied",
        "cancelled",
        "refused",
        "",
        "",
    ]  # the worse of two legs
    assert decisions["reason"].tolist() == ["", "gross", "expired", "too small", "", ""]


def test_bars_are_long_and_end_stamped(frames: dict[str, pd.DataFrame]) -> None:
    expected = pd.DataFrame(
        {
            "timestamp": stamps(ONE, TWO),
            "symbol": "A",
            "open": 1.0,
            "high": 4.0,
            "low": 0.5,
            "close": 2.0,
            "volume": 10.0,
            "source": "iex",
            "arrived": pd.Timestamp("2026-01-02T15:00:01.5Z"),
        }
    )
    pd.testing.assert_frame_equal(frames["bars"], expected, check_dtype=False)
    assert str(frames["bars"]["timestamp"].dt.tz) == str(frames["bars"]["arrived"].dt.tz) == "UTC"


@pytest.mark.parametrize("name", list(FRAMES))
def test_an_empty_journal_gives_the_same_columns(path: Path, frames: dict[str, pd.DataFrame], name: str) -> None:
    empty = path.with_name("empty.sqlite")
    Journal(empty).close()
    with JournalReader(empty) as reader:
        frame = frame_of(reader, name)
    assert frame.empty
    assert frame.columns.tolist() == frames[name].columns.tolist()
    assert (
        frame.select_dtypes("datetimetz").columns.tolist() == frames[name].select_dtypes("datetimetz").columns.tolist()
    )


def test_reducing_is_no_way_out_of_a_halt(path: Path) -> None:
    with Journal(path) as journal:
        for place, kind in enumerate(("halted", "reducing")):
            journal.append([events.turned(kind, kind, "news", 1.0)])
            journal.append([decision(f"2026-01-02T15:0{place}:00Z", 1.0, 1.0, {}, {})])
    with JournalReader(path) as reader:
        assert frame_of(reader, "accounts")["mode"].tolist() == ["halted", "halted"]


def test_states_are_those_of_the_agents_that_decide_now(path: Path) -> None:
    accounts = [{"digest": name} for name in "abcd"]
    made = [Decision(f"2026-01-0{day}T00:00:00Z", {}, {}, {}, {}, {}, 1.0, {}, 1.0, account)
            for day, account in enumerate(accounts, 1)]  # fmt: skip
    first, second, third, fourth = (events.decided(decision, 0.0) for decision in made)
    with Journal(path) as journal:
        journal.append([events.model("old", "1", 0.0), first, events.model("new", "2", 0.0), second])
        journal.append([events.model("new", "3", 0.0), third, fourth])  # a restart with the same agents
    with JournalReader(path) as reader:
        states = frame_of(reader, "states")
    assert states["model"].tolist() == ["new", "new"]
    assert states["stamp"].dt.day.tolist() == [2, 4]
    assert states["account"].tolist() == ['{"digest": "b"}', '{"digest": "d"}']
