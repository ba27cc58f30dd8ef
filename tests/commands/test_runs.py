"""`kedro trader flatten` beside a trader that runs."""

from types import SimpleNamespace

import pytest
from memory_venue import MemoryBroker, Venue

from sentio_kedro.commands import runs
from sentio_kedro.config.live.trader import BrokerParameters, FeedParameters, TraderParameters
from sentio_kedro.trader import events
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.journal.requests import done, pending
from sentio_kedro.trader.journal.store import Journal

PAPER = TraderParameters(
    name="paper", mode="venue_paper", feed=FeedParameters(type="ccxt"), broker=BrokerParameters(type="ccxt")
)


class Trading(ReplayClock):
    """A clock beside a trader that sends one more order and halts a second later."""

    def __init__(self, journal, venue):
        super().__init__(1_000.0)
        self.journal, self.venue = journal, venue

    async def wait_until(self, when):
        await super().wait_until(when)
        if when >= 1_001.0:
            self.halt()

    def halt(self):
        if waiting := pending(self.journal.path):
            self.venue.submit("late", "A", 7.0)
            self.journal.append([events.turned("halted", waiting[0].id, "flatten", self.now())])
            done(self.journal.path, waiting[0])


def test_flatten_closes_what_a_running_trader_sent_last(tmp_path, monkeypatch):
    path, venue = tmp_path / "paper.sqlite", Venue(cash=1_000.0, prices={"A": 10.0}, shares={"A": 3.0})
    project = SimpleNamespace(parameters=PAPER, journal=path, credentials=lambda entry: {})
    with Journal(path, "kedro trader run") as journal:
        clock = Trading(journal, venue)
        monkeypatch.setattr(runs, "SystemClock", lambda: clock)
        monkeypatch.setattr(runs, "broker_of", lambda *parts: MemoryBroker(venue, clock))
        data = runs.flatten_trader(project, 60.0, ())
        clock.halt()  # if it was not waited for
    assert (data["flat"], venue.shares) == (True, {})
    assert data["held"] == {"A": 3.0} and data["seconds"] < 5.0


def test_a_replay_does_not_go_on_with_the_journal_of_another(tmp_path):
    path = tmp_path / "replay.sqlite"
    runs._require_same_replay(path, "agents fold_1 bars test")  # there is none yet
    with Journal(path) as journal:
        journal.append([events.started("1", 1.0, broker="simulated", account="x", replayed="agents fold_1 bars test")])
    runs._require_same_replay(path, "agents fold_1 bars test")
    with pytest.raises(ValueError, match=r"is of agents fold_1 bars test .* say agents fold_0 bars test; begin anew"):
        runs._require_same_replay(path, "agents fold_0 bars test")
