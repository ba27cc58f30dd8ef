"""Rate, waiting, refusals; secrets stay secret."""

import logging
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from tests.vendors.conftest import KEYS, Waits, files

from sentio_kedro.vendors import VendorError
from sentio_kedro.vendors.transport import Transport, fault_of_json

URL = "https://user:word@vendor.example/bars?apikey=hidden"


def answer(status: int, text: str = "{}", **headers: str) -> SimpleNamespace:
    return SimpleNamespace(
        status_code=status, text=text, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def asked(waits: Waits, *answers: SimpleNamespace, per_minute: float = 6e6):
    queue = list(answers)
    transport = Transport("vendor", per_minute, ("hidden",), waits.clock())
    return transport, transport.reply(lambda: queue.pop(0), URL, fault_of_json)


def test_waits_double_with_jitter_and_a_vendors_own_wait_is_kept():
    waits = Waits(1000.0)
    own = answer(429, Retry_After="20")
    until = answer(429, Retry_After=formatdate(1010.0, usegmt=True), Date=formatdate(990.0, usegmt=True))
    asked(waits, answer(500), answer(503), own, until, answer(200))
    assert [seconds for seconds in waits.slept if seconds > 0.1] == [1.0, 2.0, 20.0, 20.0]  # jitter at its middle


def test_requests_are_spread_over_the_minute():
    waits = Waits(0.0)
    transport, _ = asked(waits, answer(200), per_minute=60)
    transport.reply(lambda: answer(200), URL, fault_of_json)
    waits.at += 0.25
    transport.reply(lambda: answer(200), URL, fault_of_json)
    assert waits.slept == [1.0, 0.75]


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "credentials.yml"), (403, "what your plan allows"), (404, "check the symbol"), (422, "the span")],
)
def test_a_refusal_is_told_at_once(status, remedy):
    waits = Waits(0.0)
    with pytest.raises(VendorError, match=f"in 1 tries the answer has status {status}.*{remedy}"):
        asked(waits, answer(status))
    assert waits.slept == []


def test_a_wait_of_hours_is_refused():
    with pytest.raises(VendorError, match="wait for 7,200 s"):
        asked(Waits(0.0), answer(429, Retry_After="7200"))


def test_no_message_has_a_secret():
    with pytest.raises(VendorError) as refused:
        asked(Waits(0.0), answer(403, '{"message": "key hidden is not allowed"}'))
    assert "hidden" not in str(refused.value)
    assert "word" not in str(refused.value)
    assert "https://vendor.example/bars" in str(refused.value)
    assert "key *** is not allowed" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<html>", "page"),
        ('{"bars": [1', "whole"),
        ("", "whole"),
        ('{"message": "no"}', "has no `bars`"),
        ('{"bars": {}}', None),
    ],
)
def test_what_is_no_data_is_told(text, fault):
    found = fault_of_json(text, ("bars",))
    assert found is None if fault is None else fault in found


def test_keys_of_alpaca_are_sent_and_kept_nowhere(setting, caplog):
    caplog.set_level(logging.DEBUG)
    case = setting("alpaca")
    case.fake.script = ["500"]
    case.run()
    assert {headers["APCA-API-SECRET-KEY"] for _, headers in case.fake.asked} == {KEYS["secret_key"]}
    case.fake.script = ["500"] * 9
    with pytest.raises(VendorError) as refused:
        case.run()
    kept = [caplog.text, str(refused.value), repr(refused.value), *(path for path, _ in case.fake.asked)]
    kept += [content.decode("latin-1") for content in files(case.root).values()]
    assert not [text for text in kept for secret in KEYS.values() if secret in text]
