"""Keys of an account are in no file, page, log or error, whatever goes wrong while it is traded."""

import asyncio
import logging
import traceback
from datetime import datetime
from types import SimpleNamespace

import pytest
import stub_agents
from fake_alpaca import NEW_YORK, FakeAlpaca, serving
from pydantic import SecretStr
from stub_agents import StubDecider, StubFeed

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader.brokers.alpaca_markets import AlpacaBroker
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.launch.build import Parts
from sentio_kedro.trader.launch.running import examine, trade
from sentio_kedro.trader.orders import UnreadableError
from sentio_kedro.trader.watch.alarms.notify import Notifier
from sentio_kedro.trader.watch.metrics import Surroundings
from sentio_kedro.trader.watch.served.exporter import exposition
from sentio_kedro.trader.watch.served.page import render, status
from sentio_kedro.trader.watch.watching import Watch

SECRETS = ("PKSECRETKEYID42", "s3cret-never-shown-9f")
SYMBOLS = ("AAA", "BBB")
START = datetime(2026, 1, 6, 10, 0, tzinfo=NEW_YORK).timestamp()
FAULTS = ("504 after", "429", "html", "truncated", "reset after", "forbidden page")


class MarketClock(ReplayClock):
    """A clock that takes the venue's along."""

    def __init__(self, venue):
        super().__init__(START)
        self.venue = venue

    def set(self, when):
        super().set(when)
        self.venue.move(self.now())


@pytest.fixture(scope="module", name="server")
def server_fixture():
    with serving(FakeAlpaca()) as venue:
        yield venue


@pytest.fixture(name="parameters")
def parameters_fixture(server):
    server.reset(START)
    return TraderParameters(
        name="paper",
        mode="venue_paper",
        feed={"type": "alpaca"},
        broker={"type": "alpaca", "url": server.url},
        orders={"timeout_seconds": 1.0, "settle_seconds": 1.0},
    )


@pytest.fixture(name="parts")
def parts_fixture(server, parameters, monkeypatch):
    monkeypatch.setattr(stub_agents, "START", START)

    def made(last):
        clock = MarketClock(server)
        keys = {name: SecretStr(key) for name, key in zip(("api_key", "secret_key"), SECRETS, strict=True)}
        broker = AlpacaBroker(
            parameters.broker, parameters.orders, keys, paper=True, bar_seconds=stub_agents.BAR, clock=clock
        )
        feed = StubFeed(SYMBOLS, clock, last)
        decider = StubDecider("paper", SYMBOLS)
        return Parts(SimpleNamespace(name="stub"), decider, feed, broker, clock, stub_agents.BAR)

    return made


def shown_by_watch(journal, parameters):
    notifier = Notifier("paper", [], [SecretStr(secret) for secret in SECRETS])
    watch = Watch(journal, Surroundings(parameters=parameters), ReplayClock(START + 300.0), notifier)
    asyncio.run(watch.look())
    metrics = exposition(lambda: watch.seen, lambda: START + 300.0)()
    texts = [render(watch.seen, START + 300.0), str(status(watch.seen, START + 300.0)), metrics.decode()]
    watch.close()
    return texts


def traded(parameters, parts, journal):
    """Trade two bars; returns what an error prints."""
    try:
        asyncio.run(trade(parameters, parts, journal, {"mode": "venue_paper"}))
    except (ValueError, UnreadableError) as error:
        return "".join(traceback.format_exception(error))
    return ""


def test_no_key_is_told_whatever_the_venue_answers(server, parameters, parts, tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    journal = tmp_path / "paper.sqlite"
    server.secrets = ("other", "keys")
    refused = traded(parameters, parts(2), tmp_path / "refused.sqlite")  # the venue repeats what it was sent
    assert "unauthorized" in refused
    server.secrets = SECRETS
    server.script["POST /v2/orders"] = list(FAULTS)
    told = [refused, traded(parameters, parts(2), journal)]
    for request in ("POST /v2/orders", "GET /v2/positions", "GET /v2/account/activities"):
        server.script[request] = list(FAULTS)
    told.append(traded(parameters, parts(4), journal))
    server.script.clear()
    told += [repr(parameters), str(asyncio.run(examine(parameters, parts(4)))), *shown_by_watch(journal, parameters)]
    output = capsys.readouterr()
    texts = [*told, caplog.text, output.out, output.err]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert server.requests("POST", "/v2/orders")
    for secret in SECRETS:
        assert not any(secret in text for text in texts)
        assert not any(secret.encode() in content for content in files)
