"""A watch over a journal that a test writes, on a clock that the test moves."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from journals import Author

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.journal.store import Journal
from sentio_kedro.trader.watch.alarms.notify import Notifier
from sentio_kedro.trader.watch.metrics import Surroundings
from sentio_kedro.trader.watch.watching import Watch


class Told(Notifier):
    """Keeps messages instead of sending them."""

    def __init__(self):
        super().__init__("paper", [])
        self.messages = []

    def waiting(self, messages):
        messages = list(messages)
        self.messages += messages
        return super().waiting(messages)


@dataclass
class Scene:
    path: Path
    author: Author = field(default_factory=Author)
    around: Surroundings = field(
        default_factory=lambda: Surroundings(
            TraderParameters(name="paper", limits={"turnover_per_day": 90.0}), cost_bps=2.0
        )
    )
    told: Told = field(default_factory=Told)
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        self.clock = ReplayClock(self.author.end)
        self.journal = Journal(self.path)
        self.watch = self.new_watch()

    def new_watch(self):
        return Watch(self.path, self.around, self.clock, self.told, **self.options)

    def restart(self):
        self.watch.close()
        self.watch = self.new_watch()

    def write(self, *events):
        self.journal.append(list(events))

    def look(self, at):
        """Look at a time, and wait for what a death asks for."""
        self.clock.set(at)

        async def once():
            await self.watch.look()
            await self.watch.settled()

        asyncio.run(once())

    def start(self, **facts):
        self.write(*self.author.start(**facts))
        self.look(self.author.end + 2.0)

    def bars(self, count, **options):
        for _ in range(count):
            self.write(*self.author.bar(**options))
            self.look(self.author.end + 2.0)

    def seconds(self, count, step=15.0):
        """Let time pass without events."""
        until = self.clock.now() + count
        while self.clock.now() < until:
            self.look(min(until, self.clock.now() + step))

    @property
    def names(self):
        """Alarms told so far, without the one that is always raised."""
        return [(message.kind, message.name) for message in self.told.messages if message.name != "WatchdogAlive"]

    def close(self):
        self.watch.close()
        self.journal.close()


@pytest.fixture
def scene(tmp_path):
    made = []

    def make(**options):
        made.append(Scene(tmp_path / "paper.sqlite", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
