"""What a watch forgets and does not forget, what it may not do, and what it does when the trader dies."""

import asyncio
import json
import sqlite3

import numpy as np
import pytest
from journals import Author
from memory_venue import Faults, MemoryBroker, Venue

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader import events
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.flatten import flatten
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.sessions import ExchangeSessions, sessions_of
from sentio_kedro.trader.watch.alarms.store import memory_path
from sentio_kedro.trader.watch.dead_man import treat
from sentio_kedro.trader.watch.metrics import Surroundings, is_dead
from sentio_kedro.trader.watch.watching import Watch

AROUND = Surroundings(TraderParameters(name="paper"))


def test_a_watch_that_is_killed_tells_what_began_and_ended_meanwhile_and_nothing_twice(scene):
    one = scene()
    one.start()
    one.bars(3)
    one.write(events.turned("halted", "1", "a person", one.clock.now()))
    one.bars(2)
    one.watch.close()  # as a kill: nothing is written at the end
    one.write(events.turned("active", "2", "looked", one.author.end + 3.0))
    for _ in range(7):
        one.write(*one.author.bar())
    row = {"what": "cash", "subject": "account", "journal": 1.0, "venue": 2.0}
    one.write(events.reconciled("r1", [row], one.author.end + 3.0))
    one.write(*one.author.bar())
    one.write(events.reconciled("r2", [], one.author.end + 3.0))
    for _ in range(7):
        one.write(*one.author.bar())
    one.restart()
    one.look(one.author.end + 2.0)
    assert one.names == [
        *(("raised", "Halted"), ("resolved", "Halted")),
        *(("raised", "ReconcileMismatch"), ("resolved", "ReconcileMismatch")),
    ]
    one.restart()
    one.look(one.author.end + 3.0)
    assert len(one.names) == 4


def test_a_watch_that_is_killed_right_after_it_told_something_does_not_tell_it_again(scene):
    one = scene()
    one.start()
    one.bars(3)
    one.write(events.turned("halted", "1", "a person", one.clock.now()))
    one.look(one.clock.now() + 1.0)
    one.restart()
    one.look(one.clock.now() + 1.0)
    assert one.names == [("raised", "Halted")]


def test_a_first_look_at_an_old_journal_tells_only_what_stands(scene):
    one = scene()
    one.write(*one.author.start(), *one.author.bar(), events.turned("halted", "1", "x", 1.0))
    one.write(*one.author.bar(), events.turned("active", "2", "x", 2.0), *one.author.bar())
    one.look(one.author.end + 2.0)
    assert one.names == []


def test_the_view_does_not_depend_on_when_it_is_read(scene):
    one = scene()
    one.start()
    one.bars(30)
    seen = one.watch.seen.view
    one.restart()
    one.look(one.clock.now())
    assert one.watch.seen.view == seen


def test_a_watch_cannot_write_the_journal_and_leaves_no_byte_of_it_changed(scene):
    one = scene()
    one.start()
    one.bars(5)
    reader = JournalReader(one.path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM snapshots")
    reader.close()
    before = one.path.read_bytes()
    one.bars(0)
    one.look(one.clock.now() + 5.0)
    assert one.path.read_bytes() == before
    assert {path.name for path in one.path.parent.iterdir() if "watch" in path.name} == {"paper.sqlite.watch.json"}


def test_a_watch_waits_for_a_journal_and_follows_one_that_is_replaced(tmp_path, scene):
    path, clock = tmp_path / "later.sqlite", ReplayClock(Author().end)
    told = scene().told
    watch = Watch(path, AROUND, clock, told)
    asyncio.run(watch.look())
    assert "kedro trader run" in watch.seen.problem
    for seed in (1, 2):
        path.unlink(missing_ok=True)
        author = Author(seed=seed)
        with Journal(path) as journal:
            journal.append([*author.start(), *author.bar()])
        asyncio.run(watch.look())
        assert (watch.seen.problem, watch.seen.view.decisions) == ("", 1)
        assert watch.seen.view.equity == author.equity
    watch.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"standing": {}}', '{"standing": {"raised": {"x": 1}}}'])
def test_a_memory_that_cannot_be_read_is_begun_anew(scene, text):
    one = scene()
    memory_path(one.path).write_text(text)
    one.restart()
    one.start()
    one.bars(2)
    assert one.names == []
    assert json.loads(memory_path(one.path).read_text())["standing"]["raised"]


class Account:
    """A venue with one resting order and one position, and brokers to it."""

    def __init__(self, clock, **faults):
        self.venue = Venue(at_once=0.0, prices={"BTC": 100.0}, shares={"BTC": 2.0}, time=clock.now)
        self.venue.submit("resting", "BTC", 1.0)
        self.clock, self.faults, self.made = clock, Faults(**faults), []

    def broker(self):
        self.made.append(MemoryBroker(self.venue, self.clock, self.faults))
        return self.made[-1]

    async def close_positions(self, broker):
        self.venue.at_once = 1.0
        return (await flatten(broker, self.clock, "paper")).flat

    @property
    def open(self):
        return [order.id for order in self.venue.book if order.status == "working"]


def dying(scene, on_death="cancel", **faults):
    one = scene()
    account = Account(one.clock, **faults)
    one.around = Surroundings(TraderParameters(name="paper", watch={"on_death": on_death}))
    one.options = {"broker": account.broker, "flatten": account.close_positions}
    one.restart()
    one.start()
    one.bars(5)
    return one, account


def until_dead(one):
    """Let time pass as the watch itself lets it pass, up to 2.5 bars and 10 s after the last closed bar."""
    end = one.author.end + 2.5 * 60.0 + 10.0
    while one.clock.now() <= end:
        one.look(min(one.watch._next(), end + 0.02))


def test_orders_of_a_dead_trader_are_cancelled_in_time_and_once(scene):
    one, account = dying(scene)
    one.seconds(100.0, step=1.0)
    assert account.open == ["resting"]
    until_dead(one)
    assert one.clock.now() <= one.author.end + 2.5 * 60.0 + 10.0 + 0.02
    assert account.open == []
    assert account.venue.shares == {"BTC": 2.0}
    one.seconds(30.0, step=1.0)
    one.restart()
    one.seconds(30.0, step=1.0)
    assert len(account.made) == 1
    assert account.made[0].requests == ["cancel_all", "open_orders", "close"]
    texts = [message.text for message in one.told.messages if message.name == "TraderDown"]
    assert [("cancelled, positions stay" in text) for text in texts] == [False, True]


def test_a_first_watch_over_a_trader_that_ended_long_ago_leaves_its_account_alone(scene):
    """Whoever trades there by hand since would lose orders that nobody knows of."""
    one, account = dying(scene)
    memory_path(one.path).unlink()
    one.restart()
    one.look(one.author.end + 86_400.0)
    one.look(one.author.end + 86_410.0)
    assert ("raised", "TraderDown") in one.names
    assert (account.made, account.open) == ([], ["resting"])


def test_a_second_death_is_treated_again(scene):
    one, account = dying(scene)
    until_dead(one)
    one.author.number += 5
    one.bars(2)
    account.venue.submit("another", "BTC", 1.0)
    until_dead(one)
    assert account.open == []
    assert len(account.made) == 2


def test_a_venue_that_does_not_answer_is_asked_until_it_does(scene):
    script = [("cancel_all", "unreadable")] * 3 + [("open_orders", "unreadable")] * 2
    one, account = dying(scene, script=script)
    until_dead(one)
    assert account.open == []
    assert account.made[0].requests.count("cancel_all") == 6


def test_a_venue_that_never_answers_is_given_up_and_tried_anew():
    clock = ReplayClock(0.0)
    account = Account(clock, share={"unreadable": 1.0})
    account.faults.script = [("cancel_all", "unreadable")] * 1_000
    treated = asyncio.run(treat("cancel", account.broker, clock))
    assert not treated.done
    assert 60.0 <= clock.now() < 62.0
    account.faults.script = []
    account.faults.share = {}
    assert asyncio.run(treat("cancel", account.broker, clock)).done


def test_a_death_may_flatten_or_only_alert(scene):
    one, account = dying(scene, "flatten")
    until_dead(one)
    assert account.open == []
    assert account.venue.shares == {}


def test_an_alert_touches_nothing(scene):
    one, account = dying(scene, "alert")
    until_dead(one)
    assert account.open == ["resting"]
    assert account.made == []
    assert ("raised", "TraderDown") in one.names


def test_a_library_that_raises_anything_is_tried_again_at_the_next_look(scene, caplog):
    one, account = dying(scene)
    broker, account.broker = account.broker, None

    def broken():
        one.options["broker"] = broker
        raise RuntimeError("a vendor's library")

    one.options["broker"] = broken
    one.restart()
    until_dead(one)
    assert "could not be cancelled" in caplog.text
    one.restart()
    one.look(one.clock.now() + 1.0)
    assert account.open == []


def test_a_replay_never_dies(scene):
    one = scene(author=Author(mode="replay"))
    one.start()
    one.bars(5)
    one.seconds(36_000.0, step=6_000.0)
    assert one.names == []


HOUR = 3_600.0


def test_time_counts_while_the_market_is_open_and_who_has_died_stays_dead_over_night(scene):
    one = scene(author=Author(seconds=1_800.0))
    one.start()
    one.bars(4)
    end = one.author.end
    day = ExchangeSessions(*(_hours(end, *edges) for edges in ((-4.0, 20.0), (0.5, 26.5))))
    around = Surroundings(AROUND.parameters, sessions=day)
    view = one.watch.seen.view
    # Closed half an hour after the last bar, open again 20 h after it: 2.5 bars are 1.25 h of open time.
    assert not is_dead(view, end + 19.9 * HOUR, around)
    assert not is_dead(view, end + 20.75 * HOUR + 9.0, around)
    assert is_dead(view, end + 20.75 * HOUR + 11.0, around)
    assert is_dead(view, end + 40.0 * HOUR, around)
    assert not day.is_open(end + 40.0 * HOUR)


def _hours(end, *hours):
    return np.array([end + hour * HOUR for hour in hours])


def test_a_half_day_and_a_weekend_of_an_exchange_make_no_bar_old():
    thanksgiving_friday = 1_764_320_400.0  # 2025-11-28 09:00 UTC; New York opens at 14:30 and closes early at 18:00
    sessions = sessions_of("XNYS", thanksgiving_friday)
    opening = thanksgiving_friday + 5.5 * HOUR
    assert not sessions.is_open(opening - 1.0)
    assert sessions.is_open(opening)
    assert sessions.open_seconds(opening, opening + 3 * 24 * HOUR) == pytest.approx(3.5 * HOUR)
    assert sessions.bar_seconds(24 * HOUR) == pytest.approx(6.5 * HOUR)
    assert sessions.bar_seconds(60.0) == 60.0
