"""What was written once stays, to the last bit, and nothing else is believed."""

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import psutil
import pytest

from sentio_kedro.locks import writer_of
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.store import Journal, JournalError, JournalReader, Stored

BAR = Event("bar", "2026-01-02T15:30:00Z", 1.25, {"close": 0.1 + 0.2, "symbols": ["A", "B"], "none": None})
LONG = Event("decided", "2026-01-02T15:30:00Z", 2.5, {"values": [math.pi * place for place in range(100)]})


def filled(path: Path, count: int = 5) -> Path:
    with Journal(path) as journal:
        journal.append([Event("sent", f"order {place}", float(place)) for place in range(1, count + 1)])
    return path


def read(path: Path) -> list[Stored]:
    with JournalReader(path) as reader:
        return list(reader.events())


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours


class TestFacts:
    def test_come_back_in_order_and_to_the_last_bit(self, path: Path) -> None:
        odd = Event("filled", "x", 0.1, {"tiny": 5e-324, "zero": -0.0, "big": 1.7976931348623157e308, "é": "ü\n"})
        with Journal(path) as journal:
            assert journal.append([BAR, LONG]) == [BAR, LONG]
            assert journal.append([odd], durable=True) == [odd]
        assert read(path) == [Stored(1, BAR), Stored(2, LONG), Stored(3, odd)]
        assert math.copysign(1.0, read(path)[2].event.body["zero"]) == -1.0

    def test_happen_once_also_after_a_restart(self, path: Path) -> None:
        with Journal(path) as journal:
            journal.append([BAR])
        with Journal(path) as journal:
            assert journal.holds(BAR.kind, BAR.key)
            assert not journal.holds("decided", BAR.key)
            assert journal.append([BAR, LONG, LONG]) == [LONG]
            assert journal.append([Event(BAR.kind, BAR.key, 99.0, BAR.body)]) == []  # told later, still the same
        assert [one.event for one in read(path)] == [BAR, LONG]

    @pytest.mark.parametrize("fact", [BAR, LONG])
    def test_do_not_change_and_the_transaction_that_tries_leaves_nothing(self, path: Path, fact: Event) -> None:
        with Journal(path) as journal:
            journal.append([fact])
            told = f"fact {fact.kind} {fact.key} must stay what it is, .*; a fact happens once"
            with pytest.raises(JournalError, match=told):
                journal.append([Event("sent", "new", 1.0), Event(fact.kind, fact.key, fact.at, {"other": 1})])
            assert journal.append([Event("sent", "newer", 1.0)])
        assert [one.event.key for one in read(path)] == [fact.key, "newer"]

    @pytest.mark.parametrize(
        ("event", "told"),
        [
            (Event("tick", "a", 1.0), "`kind` of a fact must be one of .*, was 'tick'"),
            (Event("bar", "", 1.0), "must have a key and a finite time, has '' and 1.0"),
            (Event("bar", "a", math.nan), "must have a key and a finite time, has 'a' and nan"),
            (Event("bar", "a", 1.0, {"close": math.nan}), "body of bar a must be plain data with finite numbers"),
            (Event("bar", "a", 1.0, {"close": math.inf}), "finite numbers"),
            (Event("bar", "a", 1.0, {"path": Path("x")}), "not JSON serializable"),
        ],
    )
    def test_are_plain_and_finite(self, path: Path, event: Event, told: str) -> None:
        with Journal(path) as journal, pytest.raises(JournalError, match=told):
            journal.append([BAR, event])
        assert read(path) == []

    def test_are_chosen_by_kind_and_place(self, path: Path) -> None:
        with Journal(path) as journal:
            journal.append([BAR, LONG, Event("bar", "later", 3.0)])
        with JournalReader(path) as reader:
            assert [one.seq for one in reader.events(kinds={"bar"})] == [1, 3]
            assert [one.seq for one in reader.events(after=1)] == [2, 3]
            assert reader.newest("decided") == Stored(2, LONG)
            assert reader.newest("bar") == Stored(3, Event("bar", "later", 3.0))
            assert reader.newest("halted") is None
            assert reader.count() == 3

    def test_are_read_beyond_one_page(self, path: Path) -> None:
        filled(path, 2_500)
        assert [one.seq for one in read(path)] == list(range(1, 2_501))


class TestDurability:
    def test_only_what_must_waits_for_the_disk(self, path: Path) -> None:
        with Journal(path) as journal:
            connection, statements = journal._connection, []
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            connection.set_trace_callback(lambda statement: statements.append(statement.split(" ")[0:4]))
            for durable, number in ((True, 2), (False, 1), (True, 2)):
                journal.append([Event("sent", f"{len(statements)}", 1.0)], durable=durable)
                assert connection.execute("PRAGMA synchronous").fetchone() == (number,)
        levels = [one[3] for one in statements if one[:2] == ["PRAGMA", "synchronous"] and len(one) == 4]
        assert levels == ["FULL", "NORMAL", "FULL"]
        assert [one[0] for one in statements[:4]] == ["PRAGMA", "BEGIN", "SELECT", "INSERT"]  # before it begins

    def test_a_full_disk_is_told_and_nothing_is_appended(self, path: Path) -> None:
        filled(path)
        with Journal(path) as journal:
            pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
            journal._connection.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(OSError, match=r"No space left on device: '.*replay.sqlite'"):
                journal.append([Event("sent", f"more {place}", 1.0, {"x": "y" * 200}) for place in range(100)])
        assert len(read(path)) == 5

    def test_a_kill_inside_a_transaction_leaves_the_last_whole_one(self, path: Path) -> None:
        code = """
import os, signal, sys
from pathlib import Path
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.store import Journal
journal = Journal(Path(sys.argv[1]))
for place in range(3):
    journal.append([Event("intended", f"{place}", 1.0)], durable=True)
def events():
    yield Event("sent", "half", 1.0)
    os.kill(os.getpid(), signal.SIGKILL)
journal.append(events())
"""
        for _ in range(2):  # the second begins with what the first left
            process = python(code, path)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            assert [one.event.key for one in read(path)] == ["0", "1", "2"]
        with Journal(path) as journal:
            assert journal.append([Event("sent", "half", 1.0)])
        with JournalReader(path) as reader:
            assert reader.verify() == 4

    def test_kills_at_any_time_leave_a_whole_chain(self, path: Path) -> None:
        code = """
import sys
from pathlib import Path
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.store import Journal
journal = Journal(Path(sys.argv[1]))
for place in range(1_000_000):
    journal.append([Event("intended", f"{sys.argv[2]} {place}", 1.0, {"x": place})], durable=place % 7 == 0)
    print(place, flush=True)
"""
        told = 0
        for run in range(3):
            process = python(code, path, run)
            assert process.stdout is not None
            for _ in range(5 + 20 * run):
                process.stdout.readline()
            process.kill()
            told += 5 + 20 * run + len(process.communicate()[0].splitlines())
            with JournalReader(path) as reader:
                assert reader.verify() >= told
                told = reader.count()


class TestOneWriter:
    def test_a_second_process_is_told_of_the_first_and_ends(self, path: Path) -> None:
        code = """
import sys
from pathlib import Path
from sentio_kedro.trader.journal.store import Journal
try:
    Journal(Path(sys.argv[1]))
except ValueError as error:
    print(error)
"""
        with Journal(path, "kedro trader run --env paper") as journal:
            told = writer_of(path)
            assert told is not None
            assert told.startswith(f"process {os.getpid()} on ")
            assert "(`kedro trader run --env paper`) since 20" in told
            second = python(code, path).communicate(timeout=30)[0]
            assert (
                second == f"`replay.sqlite` must have one writer at a time, is written by {told}; wait until it has "
                "ended, or stop it.\n"
            )
            assert journal.append([BAR])
        assert writer_of(path) is None
        Journal(path).close()

    def test_readers_see_whole_transactions_while_it_writes(self, path: Path) -> None:
        with Journal(path) as journal, JournalReader(path) as reader:
            assert reader.count() == 0
            journal.append([BAR, LONG])
            assert reader.count() == 2
            slow = reader.events()
            assert next(slow).seq == 1
            journal.append([Event("sent", "a", 1.0)])
            assert [one.seq for one in slow] == [2]
            assert [one.seq for one in reader.events(after=2)] == [3]

    def test_a_network_file_system_is_refused(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mounts = [
            SimpleNamespace(mountpoint="/", fstype="ext4"),
            SimpleNamespace(mountpoint=f"{path.parent}", fstype="nfs4"),
        ]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
        with pytest.raises(
            JournalError, match=r"must lie on a disk of this machine, its folder is mounted by nfs4; set"
        ):
            Journal(path)
        assert not path.exists()


class TestChanges:
    @pytest.mark.parametrize(
        ("statement", "told"),
        [
            ("UPDATE events SET body = '{}' WHERE seq = 2", "never changed"),
            ("DELETE FROM events WHERE seq = 2", "never deleted"),
            ("INSERT OR REPLACE INTO events VALUES (2, 1.0, 'sent', 'x', '{}', null, x'00')", "only appended"),
            ("INSERT OR REPLACE INTO events VALUES (6, 1.0, 'sent', 'order 2', '{}', null, x'00')", "only appended"),
            ("INSERT INTO events VALUES (9, 1.0, 'sent', 'x', '{}', null, x'00')", "only appended"),
        ],
    )
    def test_are_refused_by_the_file_itself(self, path: Path, statement: str, told: str) -> None:
        filled(path)
        with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match=told):
            connection.execute(statement)

    @pytest.mark.parametrize(
        ("statement", "told"),
        [
            ("UPDATE events SET body = '{\"x\":1}' WHERE seq = 3", "event 3, sent order 3, does not continue"),
            ("UPDATE events SET at = 3.0000000000000004 WHERE seq = 3", "event 3, sent order 3, does not continue"),
            ("UPDATE events SET kind = 'refused' WHERE seq = 3", "event 3, refused order 3, does not continue"),
            ("UPDATE events SET hash = x'00' WHERE seq = 3", "event 3, sent order 3, does not continue"),
            ("UPDATE events SET body = x'00' WHERE seq = 3", "a body cannot be unpacked"),
            ("DELETE FROM events WHERE seq = 3", "event 3 is missing, 4 follows"),
        ],
    )
    def test_by_force_are_found_with_their_place(self, path: Path, statement: str, told: str) -> None:
        filled(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TRIGGER no_update")
            connection.execute("DROP TRIGGER no_delete")
            connection.execute(statement)
        before = path.read_bytes()
        remedy = rf"{told}.* stays as it is; restore it from a copy, or move it away with its `-wal` and `-shm`"
        with JournalReader(path) as reader, pytest.raises(JournalError, match=remedy):
            reader.verify()
        with pytest.raises(JournalError, match=remedy):
            Journal(path)
        assert path.read_bytes() == before
        assert writer_of(path) is None

    def test_before_the_newest_snapshot_are_found_by_verify_alone(self, path: Path) -> None:
        with Journal(filled(path)) as journal:
            journal.snapshot({"mode": "active"})
            journal.append([BAR])
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TRIGGER no_update")
            connection.execute("UPDATE events SET at = 9.0 WHERE seq = 2")
        Journal(path).close()
        with JournalReader(path) as reader, pytest.raises(JournalError, match="event 2, sent order 2, does not"):
            reader.verify()

    def test_after_the_newest_snapshot_are_found_at_once(self, path: Path) -> None:
        with Journal(path) as journal:
            journal.snapshot({})
        filled(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TRIGGER no_update")
            connection.execute("UPDATE events SET at = 9.0 WHERE seq = 2")
        with pytest.raises(JournalError, match="event 2, sent order 2, does not continue"):
            Journal(path)


class TestSnapshots:
    def test_the_newest_is_read_with_its_place(self, path: Path) -> None:
        with Journal(path) as journal:
            for place in range(1, 5):
                journal.append([Event("bar", f"{place}", 1.0)])
                journal.snapshot({"bar": f"{place}", "cash": 0.1 * place, "long": "x" * 1_000})
            journal.snapshot({"bar": "again"})
        with JournalReader(path) as reader:
            assert reader.latest_snapshot() == (4, {"bar": "again"})
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT seq FROM snapshots ORDER BY seq").fetchall() == [(3,), (4,)]

    def test_there_is_none_at_first(self, path: Path) -> None:
        with JournalReader(filled(path)) as reader:
            assert reader.latest_snapshot() is None

    @pytest.mark.parametrize("changed", ["x'00'", "(SELECT body FROM snapshots WHERE seq = 1)"])
    def test_a_damaged_one_is_passed_over_aloud(
        self, path: Path, caplog: pytest.LogCaptureFixture, changed: str
    ) -> None:
        with Journal(path) as journal:
            for place in (1, 2):
                journal.append([Event("bar", f"{place}", 1.0)])
                journal.snapshot({"bar": place})
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE snapshots SET body = {changed} WHERE seq = 2")  # noqa: S608 - ours
        with JournalReader(path) as reader:
            assert reader.latest_snapshot() == (1, {"bar": 1})
        assert "The snapshot after event 2 is damaged and is not used." in caplog.text

    def test_it_is_no_place_for_what_is_not_plain(self, path: Path) -> None:
        with Journal(path) as journal, pytest.raises(JournalError, match="body of a snapshot must be plain data"):
            journal.snapshot({"cash": math.nan})


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def scrambled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4_096 : 5 * 4_096] = os.urandom(4 * 4_096)
    path.write_bytes(bytes(content))


def text(path: Path) -> None:
    path.write_text("no database " * 100)


class TestFiles:
    @pytest.mark.parametrize("fault", [emptied, cut, scrambled, text])
    def test_a_damaged_one_is_refused_and_stays(self, path: Path, fault: Callable[[Path], None]) -> None:
        filled(path, 300)
        fault(path)
        before = path.read_bytes()
        with pytest.raises(
            JournalError, match=r"is damaged \(.*\) and stays as it is; restore it from a copy, or move"
        ):
            Journal(path)
        with pytest.raises(JournalError, match=r"is damaged \("), JournalReader(path) as reader:
            reader.verify()
        assert path.read_bytes() == before

    def test_another_version_is_refused(self, path: Path) -> None:
        filled(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 2")
        for opening in (Journal, JournalReader):
            with pytest.raises(JournalError, match="must have the version 1, has 2; use the release that wrote it"):
                opening(path)

    def test_a_log_without_its_journal_is_not_played_into_a_new_one(self, path: Path) -> None:
        log = path.with_name("replay.sqlite-wal")
        log.write_bytes(b"changes")
        with pytest.raises(
            JournalError, match=r"is missing, its log `replay.sqlite-wal` is there; restore the journal"
        ):
            Journal(path)
        assert not path.exists()
        assert log.read_bytes() == b"changes"

    def test_a_reader_makes_none(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"There is no journal `.*`; `kedro trader run` makes one"):
            JournalReader(path)
        assert list(path.parent.iterdir()) == []

    def test_a_reader_cannot_write(self, path: Path) -> None:
        with JournalReader(filled(path)) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.execute("DELETE FROM snapshots")

    @pytest.mark.parametrize("with_log", [False, True])
    def test_one_in_a_folder_that_may_not_be_written_is_read(self, path: Path, with_log: bool) -> None:
        with Journal(path) as journal, TemporaryDirectory() as name:  # pytest's own folders are closed to others
            journal.append([BAR, LONG])
            if not with_log:
                journal.close()
            folder, user = Path(name), os.geteuid()
            for suffix in ("", "-wal") if with_log else ("",):
                shutil.copyfile(f"{path}{suffix}", folder / f"{path.name}{suffix}")
            folder.chmod(0o555)
            os.seteuid(user or 65_534)  # the superuser may write everywhere
            try:
                assert read(folder / path.name) == [Stored(1, BAR), Stored(2, LONG)]
            finally:
                os.seteuid(user)
            assert not (folder / "replay.sqlite-shm").exists()
            folder.chmod(0o755)
