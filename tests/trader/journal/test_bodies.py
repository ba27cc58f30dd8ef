"""Long bodies are compressed against an earlier one of their kind, and come back as they were."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.bodies import PERIOD
from sentio_kedro.trader.journal.store import Journal, JournalError, JournalReader


def decision(place: int) -> Event:
    values = [1.0 / (7 + number) for number in range(120)]
    values[place % 120] = 1.0 / (1_000 + place)
    return Event("decided", f"{place}", float(place), {"values": values, "é": "ü" * 3})


def rows(path: Path, columns: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM events ORDER BY seq").fetchall()  # noqa: S608 - ours


def events(path: Path) -> list[Event]:
    with JournalReader(path) as reader:
        assert reader.verify() == reader.count()
        newest = reader.newest("decided")
        found = [one.event for one in reader.events()]
        assert newest is not None
        assert newest.event == [one for one in found if one.kind == "decided"][-1]
        return found


def test_they_take_a_fraction_and_come_back(path: Path) -> None:
    written = [decision(place) for place in range(2 * PERIOD + 5)]
    with Journal(path) as journal:
        for one in written:
            journal.append([one])
    assert events(path) == written
    kept = rows(path, "basis, length(body)")
    alone = [place for place, (basis, _) in enumerate(kept) if basis is None]
    assert alone == [0, PERIOD + 1, 2 * PERIOD + 2]
    assert {basis for basis, _ in kept if basis is not None} == {place + 1 for place in alone}
    assert max(size for basis, size in kept if basis is not None) < 0.2 * min(kept[place][1] for place in alone)


def test_short_ones_stay_readable(path: Path) -> None:
    with Journal(path) as journal:
        journal.append([Event("sent", "a", 1.0, {"x": 1}), decision(1)])
    assert rows(path, "typeof(body)") == [("text",), ("blob",)]


def test_each_kind_and_each_process_has_its_own_basis(path: Path) -> None:
    written = []
    for run in range(3):
        with Journal(path) as journal:
            for place in range(3):
                one = decision(10 * run + place)
                written += [one, Event("bar", one.key, one.at, {"other": ["text of a bar"] * 40, "place": place})]
                journal.append(written[-2:])
    assert events(path) == written
    assert [basis for (basis,) in rows(path, "basis")] == [
        place for begin in (1, 7, 13) for place in (None, None, begin, begin + 1, begin, begin + 1)
    ]


def test_nothing_is_compressed_against_what_was_not_appended(path: Path) -> None:
    with Journal(path) as journal:
        with pytest.raises(JournalError, match="`kind` of a fact"):
            journal.append([decision(1), Event("nonsense", "x", 1.0)])
        journal.append([decision(2)])
        journal.append([decision(3)])
    assert events(path) == [decision(2), decision(3)]
    assert rows(path, "basis") == [(None,), (1,)]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE events SET basis = 2 WHERE seq = 3", "a body cannot be unpacked"),
        ("UPDATE events SET basis = 9 WHERE seq = 3", "event 9, which others are compressed against, is missing"),
        ("UPDATE events SET basis = null WHERE seq = 3", "a body cannot be unpacked"),
        ("UPDATE events SET body = substr(body, 1, length(body) - 6) WHERE seq = 3", "its end is missing"),
        (
            "UPDATE events SET body = (SELECT body FROM events WHERE seq = 4) WHERE seq = 3",
            "event 3, decided 3, does not",
        ),
    ],
)
def test_changes_are_found(path: Path, statement: str, told: str) -> None:
    with Journal(path) as journal:
        journal.append([decision(place) for place in range(1, 5)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER no_update")
        connection.execute(statement)
    with JournalReader(path) as reader, pytest.raises(JournalError, match=told):
        reader.verify()
