"""A real Prometheus scrapes a watch over a journal with faults: every panel has data, and the rules fire."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from journals import Author

from sentio_kedro.trader import events
from sentio_kedro.trader.orders import Order
from sentio_kedro.trader.watch.band import band_of
from sentio_kedro.trader.watch.drift import Reference
from sentio_kedro.trader.watch.served.server import Shown, WatchServer

FOLDER = Path(__file__).parents[3] / "monitoring"
PROMETHEUS = shutil.which("prometheus")
PATIENCE = 20.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PROMETHEUS is None, reason="Needs Prometheus: install the package `prometheus` to run this test."
    ),
]


@pytest.fixture
def faulty(scene):
    """A trader that halted over a difference, with an unknown order, skewed clock, drift and late, revised bars."""
    one = scene(author=Author(trades=0.5))
    reference = Reference(10, {}, {}, {"momentum": 0.1}, 1.0)
    band = band_of(np.random.default_rng(0).normal(0.0, 4e-5, 400), mean_block=5.0)
    one.around = replace(one.around, band=band, reference=reference, drift={"momentum": 0.4})
    one.restart()
    one.write(*one.author.start(), *(event for _ in range(120) for event in one.author.bar()))
    at = one.author.end + 1.0
    order = Order("a" * 32, "2026-03-02T00:30:00Z", "BTC", 1.0, 100.0)
    rows = [
        {"what": "position", "subject": "BTC", "journal": 1.0, "venue": 2.0, "halts": True},
        {"what": "clock", "subject": "venue", "journal": 0.0, "venue": 7.0, "halts": False},
    ]
    one.write(
        events.intended(order, at), events.sent(order.id, 1, at), events.unknown(order.id, 1, "504", at),
        events.denied(replace(order, id="b" * 32), "gross", 1.2, 1.0, at), events.reconciled("r1", rows, at),
        events.turned("halted", "1", "they differ", at), events.Event("revised_bar", "r", at, {"symbol": "BTC"}),
    )  # fmt: skip
    one.look(at)
    one.look(at + 5.0)
    return one


@pytest.fixture
def prometheus(faulty, tmp_path):
    """The address of a Prometheus that scrapes the watch five times a second."""
    server = WatchServer("127.0.0.1", 0, Shown(lambda: faulty.watch.seen, faulty.clock.now))
    rules = yaml.safe_load((FOLDER / "alarms.rules.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "0s"  # what a minute does is promtool's to test
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"], config["alerting"] = [str(tmp_path / "rules.yml")], {}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{server.port}"]
    rules["groups"][0]["interval"] = "200ms"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(  # noqa: S603 - our own command
        [PROMETHEUS, f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
         f"--web.listen-address={address}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield f"http://{address}"
    process.terminate()
    process.wait(timeout=10)
    server.close()


def ask(address, path, **query):
    try:
        with urllib.request.urlopen(f"{address}{path}?{urllib.parse.urlencode(query)}", timeout=5) as answer:  # noqa: S310
            return json.load(answer)["data"]
    except OSError:
        return None


def until(found):
    """Return what ``found`` returns once that is true."""
    end = time.monotonic() + PATIENCE
    while not (answer := found()) and time.monotonic() < end:
        threading.Event().wait(0.1)
    return answer


def test_every_panel_returns_data_and_the_planted_faults_are_alerts(prometheus):
    def scraped_twice():
        counted = ask(prometheus, "/api/v1/query", query="count_over_time(sentio_watch_up[1m])")
        return counted and counted["result"] and float(counted["result"][0]["value"][1]) >= 3

    assert until(scraped_twice)
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    empty = []
    for panel in panels:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$trader", ".+")
            found = ask(prometheus, "/api/v1/query", query=query)
            if found is None or not found["result"]:
                empty.append((panel["title"], query))
    assert empty == []

    def firing():
        alerts = (ask(prometheus, "/api/v1/alerts") or {}).get("alerts", ())
        names = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
        return names if "WatchdogAlive" in names else None

    expected = {"Halted", "ReconcileMismatch", "UnknownOrders", "ClockSkew", "FeatureDrift", "WatchdogAlive"}
    assert until(firing) == expected
