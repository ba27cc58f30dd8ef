"""What is served: numbers, health and page; only by GET, only to this machine, without a path or markup of others."""

import http.client
import json
import re

import pytest
from journals import Author
from prometheus_client.parser import text_string_to_metric_families

from sentio_kedro.config.live.alarms import PREFIX
from sentio_kedro.trader import events
from sentio_kedro.trader.watch.metrics import HELP
from sentio_kedro.trader.watch.served.server import Shown, WatchServer

HOSTILE = '<script>alert("x")</script>{{ 7 * 7 }}'


@pytest.fixture
def ask(scene):
    """A server over a scene, and a function that asks it."""
    one = scene(author=Author(trades=0.4))
    one.write(*one.author.start(), *(event for _ in range(60) for event in one.author.bar()))
    one.look(one.author.end + 2.0)
    server = WatchServer("127.0.0.1", 0, Shown(lambda: one.watch.seen, one.clock.now, "paper"))

    def request(path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    yield one, request
    server.close()


def test_metrics_are_those_that_alarms_are_judged_by(ask):
    one, request = ask
    status, headers, text = request("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    found = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    view = one.watch.seen.view
    assert found[f"{PREFIX}equity"].value == view.equity
    assert found[f"{PREFIX}equity"].labels == {"trader": "paper"}
    assert found[f"{PREFIX}fills_total"].value == view.fill_count > 10
    assert found[f"{PREFIX}decision_seconds_count"].value == 60
    assert found[f"{PREFIX}decision_seconds_sum"].value == pytest.approx(60 * 0.05, rel=1e-3)
    assert found[f"{PREFIX}order_ack_seconds_count"].value == view.outcomes["accepted"]
    assert found[f"{PREFIX}alarm"].labels == {"trader": "paper", "name": "WatchdogAlive"}
    names = {re.sub("_(bucket|sum|count)$", "", name) for name in found}
    assert {name.removeprefix(PREFIX) for name in names} <= {*HELP, "decision_seconds", "order_ack_seconds", "alarm"}


def test_the_status_is_plain_data(ask):
    one, request = ask
    status, headers, text = request("/status.json?x=1")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    data = json.loads(text)
    assert data["view"]["mode"] == "active"
    assert data["view"]["equity"] == one.author.equity
    assert data["dead"] is False
    assert len(data["events"]) <= 50


def test_health_is_503_once_the_trader_is_dead_and_without_a_journal(ask):
    one, request = ask
    assert request("/healthz")[::2] == (200, "ok\n")
    one.clock.set(one.author.end + 161.0)
    status, _, text = request("/healthz")
    assert status == 503
    assert text.startswith("No bar was closed since 2026-03-02T01:00:00Z")
    one.path.rename(one.path.with_suffix(".gone"))
    one.look(one.clock.now())
    assert request("/healthz")[::2] == (503, "There is no journal yet. kedro trader run makes it.\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_only_get_is_answered(ask, method):
    _, request = ask
    status, headers, _ = request("/", method)
    assert (status, headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/../etc/passwd", "/static/x", "/status.json/", "/%2e%2e/", "/" + "x" * 2_000])
def test_no_other_path_is_answered_and_no_path_is_told(ask, path):
    one, request = ask
    status, headers, text = request(path)
    assert status == 404
    assert "x" * 10 not in text
    assert str(one.path.parent) not in text + json.dumps(headers)
    assert "Python" not in json.dumps(headers)


def test_a_site_that_resolves_to_this_machine_is_refused(ask):
    _, request = ask
    assert request("/", Host="evil.example:9108")[0] == 421
    for host in ("localhost:1", "127.0.0.1", "[::1]:9108"):
        assert request("/", Host=host)[0] == 200


def test_the_page_escapes_what_others_wrote_and_allows_no_script(ask):
    one, request = ask
    one.write(events.turned("halted", "1", HOSTILE, one.clock.now(), by=HOSTILE))
    one.write(
        events.reconciled("r1", [{"what": HOSTILE, "subject": "a", "journal": "b", "venue": "c"}], one.clock.now())
    )
    one.look(one.clock.now())
    status, headers, page = request("/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;{{ 7 * 7 }}") >= 3
    assert " style=" not in page
    assert len(page) < 300_000
    assert str(one.path.parent) not in page + request("/status.json")[2] + request("/metrics")[2]


def test_a_page_that_cannot_be_made_tells_the_log_and_not_the_reader(ask, caplog):
    one, request = ask
    one.watch.seen = None
    status, _, text = request("/")
    assert (status, text) == (500, "The log of the watching process says what went wrong.\n")
    assert "AttributeError" in caplog.text


def test_two_servers_cannot_share_a_port(ask):
    one, _ = ask
    server = WatchServer("127.0.0.1", 0, Shown(lambda: one.watch.seen, one.clock.now))
    with pytest.raises(OSError, match="in use"):
        WatchServer("127.0.0.1", server.port, Shown(lambda: one.watch.seen, one.clock.now))
    server.close()
