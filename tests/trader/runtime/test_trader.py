import asyncio
from dataclasses import replace

import numpy as np
import pytest
from memory_venue import Faults, MemoryBroker, Venue
from stub_agents import BAR, START, StubDecider, StubFeed, price, row

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader import events
from sentio_kedro.trader.brokers.simulated import SimulatedBroker
from sentio_kedro.trader.clock import ReplayClock, seconds_of, stamp_of
from sentio_kedro.trader.contract import Note
from sentio_kedro.trader.journal.requests import Request, ask, pending
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.runtime import Trader, book
from sentio_kedro.trader.sessions import ExchangeSessions
from sentio_kedro.trader.state import Rules

SYMBOLS = ("A", "B")
LIMITS = TraderLimits(orders_per_minute=1_000, turnover_per_day=1_000.0)
SENDING = SendingParameters(settle_seconds=6.0, decide_within=0.9)


class PacedClock:
    """Time that goes on to the earliest wait once every task waits: a market's pace without its length."""

    def __init__(self, start=START):
        self.time, self.waits = start, []

    def now(self):
        return self.time

    async def wait_until(self, when):
        self.waits.append(when)
        idle = 0
        try:
            while self.time < when:
                await asyncio.sleep(0)
                idle += 1
                if idle > 20 and when == min(self.waits):
                    self.time = when
        finally:
            self.waits.remove(when)


class PacedFeed(StubFeed):
    """Bars at their ends, by the clock; ``silent`` are those that never come."""

    silent = ()

    async def rows(self, after):
        async for one in super().rows(after):
            await self.clock.wait_until(seconds_of(one.stamp))
            self._move(round((seconds_of(one.stamp) - START) / BAR))
            if one.stamp not in self.silent:
                yield one


class Bench:
    """A trader over a venue in memory, or a simulated one, and what comes of it."""

    def __init__(self, path, *, simulated=False, clock=None, first=0, last=4, feed=StubFeed, **rules):
        self.path = path
        self.clock = clock or ReplayClock(START)
        self.venue = Venue(cash=100_000.0)
        self.faults = Faults()
        self.broker = SimulatedBroker(self.clock) if simulated else MemoryBroker(self.venue, self.clock, self.faults)
        self.feed = feed(SYMBOLS, self.clock, last, first, prices=self.venue.prices)
        self.decider = StubDecider("t", SYMBOLS)
        self.rules = Rules("t", SYMBOLS, BAR, LIMITS, SENDING, simulated=simulated, **rules)
        self.boundaries = []
        self.hooks = {}

    def boundary(self, name):
        self.boundaries.append(name)
        if name in self.hooks:
            self.hooks[name](self.boundaries.count(name))

    def run(self, **options):
        with Journal(self.path) as journal:
            trader = Trader(
                self.rules,
                journal,
                self.broker,
                self.feed,
                self.decider,
                self.clock,
                boundary=self.boundary,
                **options,
            )
            self.state = asyncio.run(asyncio.wait_for(trader.run(), 20))
        return self.state

    def facts(self, *kinds):
        with JournalReader(self.path) as reader:
            return [one.event for one in reader.events(kinds=kinds or None)]

    def ask(self, kind, at=1.0):
        ask(self.path, Request(f"r-{kind}", kind, "because", "me", at))

    def consistent(self):
        return (self.state.cash, self.state.shares) == (self.venue.cash, self.venue.shares)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "t.sqlite")


def test_a_halt_that_comes_between_intent_and_post_sends_nothing(bench):
    bench.hooks["after journal intended"] = lambda count: count == 2 and bench.ask("halted")
    state = bench.run()
    assert (state.mode, state.reason) == ("halted", "because")
    assert [event.key for event in bench.facts("halted")] == ["r-halted"]
    halted = bench.facts("halted")[0].at
    assert all(event.at < halted for event in bench.facts("sent", "accepted"))
    dropped = bench.facts("dropped")
    assert len(dropped) == 2 and all("halted" in event.body["reason"] for event in dropped)
    assert not pending(bench.path)
    assert state.closed == stamp_of(START + 4 * BAR)
    assert bench.consistent()


def test_after_reducing_every_order_shrinks_a_position(bench):
    bench.hooks["after journal intended"] = lambda count: count == 2 and bench.ask("reducing")
    bench.run()
    turned, held = bench.facts("reducing")[0].at, {}
    for fill in bench.venue.executions:
        before = held.get(fill.symbol, 0.0)
        held[fill.symbol] = before + fill.shares
        assert fill.at < turned or abs(held[fill.symbol]) < abs(before)
    assert bench.state.mode == "reducing" and bench.consistent()


def test_a_stranger_halts_until_a_person_adopts_the_venues_truth_and_resumes(bench):
    def hook(count):
        if count == 2:
            bench.venue.stranger("A", 7.0)
        if count == 3:
            assert bench.facts("halted")
            bench.ask("adopt", 1.0)
            bench.ask("active", 2.0)

    bench.hooks["after journal bar"] = hook
    state = bench.run()
    assert state.mode == "active" and bench.consistent()
    assert [event.key for event in bench.facts("adopted")] == ["opening", "r-adopt"]
    assert max(event.at for event in bench.facts("sent")) == START + 4 * BAR


def test_orders_of_a_bar_go_out_together_after_one_durable_transaction(bench, monkeypatch):
    durable, inside = [], []
    append, submit = Journal.append, bench.broker.submit

    def counted(self, events, *, durable=False):
        durable_of = [event.kind for event in events] if durable else []
        if durable_of:
            bench.durable.append(durable_of)
        return append(self, events, durable=durable)

    async def slow(order):
        inside.append(len(inside) + 1)
        begun = len(inside)
        for _ in range(5):
            await asyncio.sleep(0)
        bench.together.append(len(inside) - begun)
        return await submit(order)

    bench.durable, bench.together = durable, []
    monkeypatch.setattr(Journal, "append", counted)
    bench.broker.submit = slow
    bench.run()
    bars = [event.key for event in bench.facts("decided")]
    orders = [sum(event.body["bar"] == bar for event in bench.facts("intended")) for bar in bars]
    assert [len(kinds) for kinds in durable] == [count for count in orders if count]
    assert all(set(kinds) == {"intended"} for kinds in durable)
    assert bench.together[:2] == [1, 0]  # the second had begun before the first was answered


def test_a_restart_whose_agents_decide_otherwise_halts_with_both_decisions(bench):
    bench.feed.last = 2
    bench.run()
    bench.feed.last = 4
    bench.decider = Otherwise("t", SYMBOLS)
    state = bench.run()
    assert state.mode == "halted"
    assert "orders: the journal has {" in state.reason and "the agents {" in state.reason
    assert state.bar == stamp_of(START + 4 * BAR)
    assert not [event for event in bench.facts("sent") if event.at > START + 2 * BAR]


class Remembering(StubDecider):
    def start(self, history, account, sent):
        self.history = history
        return super().start(history, account, sent)


def test_a_restart_sees_every_bar_since_the_replay_began_as_it_was_decided_on(bench):
    bench.feed.last = 7
    bench.run()
    bench.decider = Remembering("t", SYMBOLS)
    bench.feed.history = lambda bars, ask=bench.feed.history: revised(ask(bars))
    assert bench.run().mode == "active"
    frame = bench.decider.history
    stamps = frame["timestamp"].drop_duplicates()
    assert (stamps.diff().dropna().dt.total_seconds() == BAR).all()
    assert stamps.iloc[-1].timestamp() == START + 7 * BAR
    ours = frame[frame["timestamp"] >= stamp_of(START)]  # the first bar of the journal
    assert ours["close"].tolist() == [price(bar, j) for bar in range(8) for j in range(len(SYMBOLS))]
    assert (frame[frame["timestamp"] < stamp_of(START)]["close"] == 1.0).all()


async def revised(history):
    return (await history).assign(close=1.0)


class Otherwise(StubDecider):
    def _decision(self, stamp, fills):
        decision = super()._decision(stamp, fills)
        return replace(decision, orders={symbol: 1.0 for symbol in self.symbols})


def test_a_journal_of_another_account_is_refused(bench):
    bench.run()

    async def other():
        return "memory-2"

    bench.broker.account_id = other
    with pytest.raises(ValueError, match=r"is memory-1 and memory-2; set `trader.name`"):
        bench.run()


def test_notes_of_the_feed_are_kept_and_a_gap_reduces(bench):
    bench.feed.waiting = [
        Note("revised_bar", "k1", {"stamp": "s"}),
        Note("late_bar", "k2", {"stamp": "s"}),
        Note("duplicate_bar", "k3", {}),
        Note("reconnected", "k4", {}),
        Note("gap", "k5", {"missed": 9}),
    ]
    state = bench.run()
    assert [(event.kind, event.key) for event in bench.facts("revised_bar", "late_bar", "gap")] == [
        ("revised_bar", "k1"),
        ("late_bar", "k2"),
        ("gap", "k5"),
    ]
    assert bench.broker.requests.count("open_orders") >= 2  # at the start, and after the reconnect
    assert state.mode == "reducing" and "9 bars" in state.reason


def test_a_split_and_a_dividend_are_booked_before_the_sessions_first_decision(tmp_path):
    midnight = round((seconds_of("2026-03-03T00:00:00Z") - START) / BAR)
    bench = Bench(tmp_path / "t.sqlite", first=midnight - 3, last=midnight + 2)
    bench.venue.rest, bench.venue.at_once = "works", 0.5

    def hook(count):
        if count == 3:  # after the last bar of the day before
            bench.venue.split("A", 2.0)
            bench.venue.dividend("A", 1.0)

    bench.hooks["after arm"] = hook
    state = bench.run()
    assert [event.body["ratio"] for event in bench.facts("split")] == [2.0]
    order = [event.kind for event in bench.facts("bar", "cancelled", "split", "decided")]
    new_day = order.index("split")
    assert order[new_day - 3 : new_day + 2] == ["bar", "cancelled", "cancelled", "split", "decided"]
    assert len(bench.facts("cash")) == 1
    assert state.mode == "active", state.reason
    assert bench.consistent()


def test_an_unread_list_of_fills_is_not_taken_for_none(bench):
    bench.hooks["after arm"] = lambda count: count == 1 and bench.faults.script.append(("fills", "unreadable"))
    state = bench.run()
    assert bench.faults.counts == {"unreadable": 1}
    assert state.mode == "active" and bench.consistent()


def test_nothing_is_sent_while_clocks_differ(bench):
    def hook(count):
        bench.venue.skew = 5.0 if count == 2 else 0.0

    bench.hooks["after arm"] = hook
    state = bench.run()
    alarms = bench.facts("alarm")
    assert [event.body["alarm"] for event in alarms] == ["clock_skew"]
    assert alarms[0].body["seconds"] == 5.0
    dropped = bench.facts("dropped")
    assert dropped and all(event.body["reason"].startswith("the venue's clock differs by 5.0 s") for event in dropped)
    assert len({event.body["order"] for event in dropped} & {event.body["order"] for event in bench.facts("sent")}) == 0
    assert state.mode == "active" and bench.facts("sent")[-1].at > dropped[-1].at


@pytest.mark.parametrize("opened", [True, False])
def test_a_silent_feed_reduces_while_the_market_is_open(tmp_path, opened):
    bench = Bench(tmp_path / "t.sqlite", clock=PacedClock(), last=8, feed=PacedFeed)
    bench.feed.silent = [row(bar, SYMBOLS).stamp for bar in (3, 4, 5)]
    closed = ExchangeSessions(np.array([0.0]), np.array([START - 3_600.0]))
    state = bench.run(sessions=None if opened else closed)
    stale = [event.body["alarm"] for event in bench.facts("alarm")]
    assert stale == (["stale_bars"] if opened else [])
    assert state.mode == ("reducing" if opened else "active")
    assert bench.consistent()


def test_orders_wait_for_the_window_of_the_venue(tmp_path):
    bench = Bench(tmp_path / "t.sqlite", clock=PacedClock(), last=2, feed=PacedFeed)

    async def window(order):
        end = seconds_of(order.bar)
        return end + 20.0, end + 40.0

    bench.broker.window = window
    bench.run()
    delays = {round(event.at - START) % 60 for event in bench.facts("sent")}
    assert delays == {20}
    assert bench.consistent()


def test_a_restart_begins_from_the_newest_snapshot(bench, monkeypatch):
    monkeypatch.setattr(book, "SNAPSHOT_EVENTS", 10)
    bench.feed.last = 3
    bench.run()
    with JournalReader(bench.path) as reader:
        place, _ = reader.latest_snapshot()
        assert reader.count() - place < 20
    bench.feed.last = 6
    bench.run()
    other = Bench(bench.path.with_name("whole.sqlite"), last=6)
    volatile = {"started": 0, "compared": 0.0}
    assert replace(bench.state, **volatile) == replace(other.run(), **volatile)


def test_a_fact_that_the_journal_has_already_is_waited_for_no_longer(bench):
    with Journal(bench.path) as journal:
        kept = book.Book(bench.rules, journal, bench.clock, lambda name: None)
        kept.note(events.alarm("unknown", "s", 1.0, symbols=[]))
        kept.state = replace(kept.state, recording=frozenset({"alarm|unknown|s"}))
        assert kept.keep([events.alarm("unknown", "s", 2.0, symbols=[])]) == []
        assert not kept.state.recording


def test_a_venue_that_can_is_armed_at_each_closed_bar(bench):
    bench.run()
    assert bench.boundaries.count("after arm") == 5
    assert bench.venue.armed_until == START + 4 * BAR + 2.5 * BAR + 10.0


class Picky(StubDecider):
    """Refuses one bar, as a session refuses a bar whose high is below its low."""

    def advance(self, row, execution):
        if row.stamp == stamp_of(START + 3 * BAR):
            raise ValueError("high is below low")
        return super().advance(row, execution)

    def start(self, history, account, sent):
        assert stamp_of(START + 3 * BAR) not in history["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ").tolist()
        return super().start(history, account, sent)


@pytest.mark.parametrize("simulated", [True, False])
def test_a_trader_killed_while_a_bar_is_passed_over_still_closes_it(tmp_path, simulated):
    bench = Bench(tmp_path / "t.sqlite", simulated=simulated, last=3)
    bench.decider = Picky("t", SYMBOLS)

    def kill(count):
        raise ConnectionResetError

    bench.hooks["after journal halted"] = kill
    with pytest.raises(ConnectionResetError):
        bench.run()
    bench.hooks.clear()
    bench.decider = Picky("t", SYMBOLS)
    bench.run()
    assert [event.key for event in bench.facts("closed_bar")] == [stamp_of(START + bar * BAR) for bar in range(4)]


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("restart", [2, 3, 4])
def test_a_bar_that_the_agents_refuse_halts_and_is_passed_over(tmp_path, simulated, restart):
    bench = Bench(tmp_path / "t.sqlite", simulated=simulated, last=restart)
    bench.decider = Picky("t", SYMBOLS)
    bench.run()
    bench.feed.last = 6
    bench.decider = Picky("t", SYMBOLS)
    state = bench.run()
    reasons = [event.body["reason"] for event in bench.facts("halted")]
    assert reasons == ["the agents cannot decide at 2026-03-02T14:33:00Z: high is below low"]
    assert (state.mode, state.decided, state.closed) == ("halted", *[stamp_of(START + 6 * BAR)] * 2)
    decided = [event.key for event in bench.facts("decided")]
    assert decided == [stamp_of(START + bar * BAR) for bar in (0, 1, 2, 4, 5, 6)]
    assert [event.key for event in bench.facts("closed_bar")] == [stamp_of(START + bar * BAR) for bar in range(7)]


def test_a_halt_counts_though_an_older_wish_to_resume_waits_too(bench):
    def hook(count):
        if count == 2:
            bench.ask("active", 1.0)
            bench.ask("halted", 2.0)

    bench.hooks["after journal intended"] = hook
    state = bench.run()
    assert state.mode == "halted" and not pending(bench.path)
    assert not [event for event in bench.facts("sent") if event.at > bench.facts("halted")[0].at]


def test_a_halt_is_on_disk_before_its_request_is_removed(bench, monkeypatch):
    kept, append = [], Journal.append

    def counted(self, events, *, durable=False):
        kept.extend((event.kind, durable) for event in events)
        return append(self, events, durable=durable)

    monkeypatch.setattr(Journal, "append", counted)
    bench.hooks["after journal closed_bar"] = lambda count: count == 2 and bench.ask("halted")
    bench.run()
    assert ("halted", True) in kept and ("halted", False) not in kept


def test_a_restart_within_a_bar_whose_clock_was_wrong_already_goes_on(bench):
    bench.feed.last = 2
    bench.venue.skew = 5.0
    bench.run()
    bench.venue.skew = 6.0
    assert bench.run().closed == stamp_of(START + 2 * BAR)
    assert len(bench.facts("alarm")) == 3


def test_adopting_leaves_no_order_open_that_the_journal_has_forgotten(bench):
    bench.venue.rest, bench.venue.at_once = "works", 0.5

    def hook(count):
        if count == 2:
            assert bench.venue.open_orders()
            bench.ask("adopt")

    bench.hooks["after journal closed_bar"] = hook
    bench.feed.last = 1
    bench.run()
    assert [event.key for event in bench.facts("adopted")] == ["opening", "r-adopt"]
    assert not bench.venue.open_orders()
    assert bench.state.mode == "active", bench.state.reason
    assert bench.consistent()


def test_on_paper_nothing_is_ordered_at_bars_that_were_missed(tmp_path):
    bench = Bench(tmp_path / "t.sqlite", simulated=True, clock=PacedClock(), last=2, feed=PacedFeed)
    bench.run()
    bench.clock.time, bench.feed.last = START + 6 * BAR + 1.0, 6
    bench.run()
    ordered = {event.body["bar"] for event in bench.facts("intended")}
    assert ordered == {stamp_of(START + bar * BAR) for bar in (0, 1, 2, 6)}
    assert {event.body["limit"] for event in bench.facts("denied")} == {"decide_within"}
    assert {stamp_of(event.body["at"]) for event in bench.facts("filled")} <= {
        stamp_of(START + bar * BAR) for bar in (1, 2, 3)
    }


def test_a_journal_of_another_mode_is_refused(tmp_path):
    bench = Bench(tmp_path / "t.sqlite", simulated=True)
    bench.run(facts={"mode": "replay"})
    with pytest.raises(ValueError, match=r"is replay and paper: .*; set `trader.name`"):
        bench.run(facts={"mode": "paper"})
    assert len(bench.facts("started")) == 1


def test_fills_and_splits_are_kept_in_the_order_of_the_venues_clock(bench):
    def hook(count):
        if bench.clock.now() == START + 2 * BAR and not bench.venue.corporate:
            bench.venue.split("A", 2.0)
            bench.venue.stranger("A", 7.0)

    bench.hooks["before fills"] = hook
    bench.run()
    assert [event.kind for event in bench.facts("split", "halted")] == ["split", "halted"]
    assert bench.consistent()


def test_orders_that_were_decided_before_a_split_are_not_sent_after_it(bench):
    def kill(count):
        if count == 2:
            raise ConnectionResetError

    bench.hooks["before journal intended"] = kill
    with pytest.raises(ConnectionResetError):
        bench.run()
    bench.hooks.clear()
    bench.venue.split("A", 2.0)
    bench.feed.last = 1
    bench.run()
    assert bench.state.decided == bench.state.closed == stamp_of(START + BAR)
    late = [event.body["symbol"] for event in bench.facts("intended") if event.body["bar"] == bench.state.decided]
    assert late == ["B"]
    assert bench.consistent()


@pytest.mark.parametrize(("mode", "filled"), [("halted", []), ("reducing", ["A"])])
def test_in_simulation_what_was_sent_before_a_halt_is_filled_as_the_mode_allows(tmp_path, mode, filled):
    bench = Bench(tmp_path / "t.sqlite", simulated=True, last=2)
    bench.hooks["after journal closed_bar"] = lambda count: count == 2 and bench.ask(mode)
    state = bench.run()
    assert [event.body["symbol"] for event in bench.facts("filled") if event.body["at"] > START + BAR] == filled
    assert state.closed == stamp_of(START + 2 * BAR) and state.mode == mode
    held = {order: state.shares.get(order, 0.0) for order in SYMBOLS}
    assert held == ({"A": -20.0, "B": 10.0} if mode == "halted" else {"A": 0.0, "B": 10.0})
