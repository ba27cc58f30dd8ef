"""Messages arrive through the real apprise, once; a target that fails is tried again; no secret is in a text."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr

from sentio_kedro.trader.watch.alarms.evaluate import Message, Standing
from sentio_kedro.trader.watch.alarms.notify import LONGEST_PAUSE, PAUSE, Notifier, targets_of
from sentio_kedro.trader.watch.alarms.store import KEPT, Memory, Waiting, memory_path, recall, remember

SECRET = "hunter2-api-key"  # noqa: S105 - planted


def message(name="Halted", kind="raised", severity="critical", text="It is halted."):
    return Message(kind, name, severity, text, 0.0)


@pytest.fixture
def sink():
    """A web hook on this machine that refuses as often as ``failing`` says."""
    received, failing = [], [0]

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            refuse = failing[0] > 0
            failing[0] -= refuse
            if not refuse:
                received.append(json.loads(body))
            self.send_response(500 if refuse else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"json://user:{SECRET}@127.0.0.1:{server.server_port}/{SECRET}", received, failing
        server.shutdown()
        thread.join()


def notifier_to(address):
    return Notifier("paper", targets_of(["pager"], {"pager": SecretStr(address)}), [SecretStr(SECRET)])


def deliver(notifier, waiting, now):
    return asyncio.run(notifier.deliver(waiting, now))


def test_what_waits_arrives_in_one_notification_and_no_sooner_than_allowed(sink):
    address, received, _ = sink
    notifier = notifier_to(address)
    waiting = notifier.waiting([message(), message("ClockSkew")])
    assert deliver(notifier, waiting, 100.0) == ()
    assert received[0]["title"] == "[paper] Halted raised and 1 more"
    assert received[0]["type"] == "failure"
    assert received[0]["message"].count("(critical): It is halted.") == 2
    waiting = notifier.waiting([message(kind="resolved")])
    assert len(deliver(notifier, waiting, 100.0 + PAUSE - 0.1)) == 1
    assert deliver(notifier, waiting, 100.0 + PAUSE) == ()
    assert [one["type"] for one in received] == ["failure", "success"]


def test_a_target_that_fails_costs_a_line_and_is_tried_again_after_longer_and_longer_pauses(sink, caplog):
    address, received, failing = sink
    failing[0] = 2
    notifier = notifier_to(address)
    waiting, times = notifier.waiting([message()]), []
    for now in range(0, 100, 5):
        before = failing[0], len(received)
        waiting = deliver(notifier, waiting, float(now))
        if before != (failing[0], len(received)):
            times.append(now)
    assert times == [0, 10, 30]
    assert (len(received), waiting) == (1, ())
    assert caplog.text.count("did not take 1 messages; tried again") == 2
    assert SECRET not in caplog.text
    assert notifier._pause[notifier._targets[0].id] <= LONGEST_PAUSE


def test_one_failing_target_does_not_hold_up_another_nor_repeat_it(sink):
    address, received, _ = sink
    targets = targets_of(["pager", "json://127.0.0.1:9/nobody"], {"pager": SecretStr(address)})
    notifier = Notifier("paper", targets)
    waiting = deliver(notifier, notifier.waiting([message()]), 0.0)
    assert [item.targets for item in waiting] == [(targets[1].id,)]
    waiting = deliver(notifier, waiting, 60.0)
    assert len(received) == 1


def test_no_secret_is_in_a_text_an_id_or_a_file(sink, tmp_path, caplog):
    address, received, _ = sink
    notifier = notifier_to(address)
    waiting = notifier.waiting([message(text=f"The venue says: bad key {SECRET} at {address}.")])
    remember(tmp_path / "j.sqlite", Memory(waiting=waiting))
    assert recall(tmp_path / "j.sqlite").waiting == tuple(waiting)
    deliver(notifier, waiting, 0.0)
    told = json.dumps(received) + memory_path(tmp_path / "j.sqlite").read_text() + caplog.text
    assert "bad key ***" in told
    assert SECRET not in told


def test_an_address_that_nobody_knows_is_refused_by_its_number():
    with pytest.raises(ValueError, match=r"Entry 2 of `trader.watch.notify` must be an address") as refused:
        targets_of(["json://127.0.0.1", f"nosuch://{SECRET}"], {})
    assert SECRET not in str(refused.value)


def test_without_targets_messages_are_logged_and_nothing_waits(caplog):
    assert Notifier("paper", []).waiting([message()]) == []
    assert "Halted raised: It is halted." in caplog.text


def test_messages_for_a_target_that_always_fails_do_not_pile_up(tmp_path):
    waiting = [Waiting(message(text=str(number)), ("gone",)) for number in range(KEPT + 7)]
    remember(tmp_path / "j", Memory(Standing(), waiting))
    assert [item.message.text for item in recall(tmp_path / "j").waiting] == [str(n) for n in range(7, KEPT + 7)]
