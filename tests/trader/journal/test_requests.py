from pathlib import Path

import pytest

from sentio_kedro.trader.journal.requests import Request, ask, done, folder_of, pending
from sentio_kedro.trader.journal.store import Journal

HALT = Request("b-2", "halted", "news", "me@here", 2.5)
RESUME = Request("a-1", "active", "looked at it", "me@here", 1.0)


def test_nothing_waits_and_nothing_is_made_by_looking(path: Path) -> None:
    assert pending(path) == []
    assert list(path.parent.iterdir()) == []


def test_requests_wait_in_order_until_they_are_done(path: Path) -> None:
    for one in (HALT, RESUME):
        ask(path, one)
    assert pending(path) == pending(path) == [RESUME, HALT]
    done(path, RESUME)
    done(path, RESUME)
    assert pending(path) == [HALT]


def test_a_request_asked_twice_is_one(path: Path) -> None:
    ask(path, HALT)
    ask(path, HALT)
    assert pending(path) == [HALT]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.json", b'{"id":"x","kind":"halted","reason":"r","by"', "has another form than is saved here"),
        ("x.json", b"", "has another form"),
        ("x.json", b'{"id":"x","kind":"sell","reason":"r","by":"me","at":1.0}', "`kind`: Input should be"),
        ("x.json", b'{"id":"y","kind":"halted","reason":"r","by":"me","at":1.0}', "it has the id y"),
        ("x.json", b'{"id":"x","kind":"halted","reason":"r","by":"me","at":NaN}', "has another form"),
    ],
)
def test_what_is_no_request_is_told_once_and_set_aside(
    path: Path, caplog: pytest.LogCaptureFixture, name: str, content: bytes, told: str
) -> None:
    ask(path, HALT)
    (folder_of(path) / name).write_bytes(content)
    assert pending(path) == pending(path) == [HALT]
    (record,) = caplog.records
    assert told in record.getMessage()
    assert (folder_of(path) / "x.refused").read_bytes() == content


def test_a_request_that_a_kill_left_unfinished_is_not_touched(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask(path, HALT)
    for name in (".partial.c-3.json", "notes.txt"):
        (folder_of(path) / name).write_text("{")
    assert pending(path) == [HALT]
    assert {file.name for file in folder_of(path).iterdir()} == {"b-2.json", ".partial.c-3.json", "notes.txt"}
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["sell", ""])
def test_only_what_the_trader_knows_is_asked(path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="Input should be 'active'"):
        ask(path, Request("a", kind, "", "me", 1.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="id"):
        ask(path, Request("../a", "halted", "", "me", 1.0))


def test_a_new_process_keeps_requests_that_add_no_risk_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for one in (HALT, RESUME, Request("d", "adopt", "", "me", 4.0)):
        ask(path, one)
    Journal(path).close()
    assert pending(path) == [HALT]
    assert [record.getMessage().split(" ")[1] for record in caplog.records] == ["active", "adopt"]
