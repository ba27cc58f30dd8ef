"""The journal's file: made whole, opened with words for what is wrong with it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sentio_kedro.atomic import naming_full_disk, replaced_file
from sentio_kedro.trader.journal.chain import ChangedError, JournalError

VERSION = 1
"""Of the tables, in ``PRAGMA user_version``."""

SCHEMA = f"""
CREATE TABLE events(
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, body ANY NOT NULL,
  basis INTEGER, hash BLOB NOT NULL, UNIQUE(kind, key)
) STRICT;
CREATE TABLE snapshots(seq INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TRIGGER no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TRIGGER no_replace BEFORE INSERT ON events
WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM events)
  OR EXISTS (SELECT 1 FROM events WHERE kind = NEW.kind AND key = NEW.key)
BEGIN SELECT RAISE(ABORT, 'events are only appended, each once'); END;
PRAGMA user_version = {VERSION};
"""  # noqa: S608 - a number of ours

_ANEW = (
    "restore it from a copy, or move it away with its `-wal` and `-shm`: `kedro trader run` then begins a new one, and "
    '`kedro trader reconcile --adopt "reason"` takes over what the venue says'
)
_NETWORK = frozenset(
    "nfs nfs4 cifs smb3 smbfs sshfs fuse.sshfs afs afpfs ceph fuse.ceph glusterfs fuse.glusterfs lustre gpfs beegfs "
    "fuse.s3fs fuse.rclone davfs webdav 9p ncpfs".split()
)


def beside(path: Path, suffix: str) -> Path:
    """Return the file beside a journal, such as ``-wal``."""
    return path.with_name(path.name + suffix)


@contextmanager
def readable_faults(path: Path) -> Iterator[None]:
    """Turn SQLite's errors and what does not fit the chain into words.

    Raises:
        JournalError: If the file is damaged or busy.
        OSError: If the disk is full.
    """
    try:
        with naming_full_disk(path):
            yield
    except ChangedError as error:
        raise damaged(path, str(error)) from error
    except sqlite3.OperationalError as error:
        raise JournalError(
            f"The journal `{path}` cannot be used ({error}); see that its folder is there, that your user may write "
            "there, and that no other program holds it."
        ) from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # a mistake of the caller
            raise
        raise damaged(path, str(error)) from error


def damaged(path: Path, fault: str) -> JournalError:
    """Return the refusal of a file that is not what was written."""
    return JournalError(f"The journal `{path}` is damaged ({fault.rstrip('.')}) and stays as it is; {_ANEW}.")


def make(path: Path) -> None:
    """Make an empty journal, whole or not at all.

    Raises:
        JournalError: If a log of changes without its journal lies there, which SQLite would play into the new file.
    """
    log = beside(path, "-wal")
    if log.exists() and log.stat().st_size:
        raise JournalError(
            f"`{path}` is missing, its log `{log.name}` is there; restore the journal beside it, or move the log away "
            "too."
        )
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(SCHEMA)
        with replaced_file(path) as partial:
            partial.write_bytes(empty.serialize())


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open a journal that exists; transactions are begun by the caller, one thread at a time.

    Raises:
        JournalError: If it is no journal of this version, or damaged.
    """
    with readable_faults(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            _require_journal(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path) -> tuple[sqlite3.Connection, ExitStack]:
    """Open a journal read-only, also one in a folder that may not be written, where a copy is read if need be.

    Returns:
        The connection, and a stack whose ``close`` closes it.

    Raises:
        FileNotFoundError: If there is none.
        JournalError: If it is no journal of this version, or damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no journal `{path}`; `kedro trader run` makes one.")
    with ExitStack() as opened, readable_faults(path):
        try:
            connection = _connected(path)
        except sqlite3.OperationalError:  # WAL needs files beside the journal, which cannot be made there
            copy = Path(opened.enter_context(TemporaryDirectory())) / path.name
            for suffix in ("", "-wal"):
                if beside(path, suffix).exists():
                    shutil.copyfile(beside(path, suffix), beside(copy, suffix))
            connection = _connected(copy)
        opened.callback(connection.close)
        _require_journal(connection, path)
        return connection, opened.pop_all()


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _require_journal(connection: sqlite3.Connection, path: Path) -> None:
    ((version,),) = connection.execute("PRAGMA user_version")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if version == VERSION and {"events", "snapshots"} <= tables:
        return
    if not version:
        raise damaged(path, "it holds no journal")
    raise JournalError(
        f"The journal `{path}` must have the version {VERSION}, has {version}; use the release that wrote it, or give "
        "`trader.name` another value to begin a new one."
    )


def refuse_network(path: Path) -> None:
    """Refuse file systems on which SQLite's locks and log do not hold.

    Raises:
        JournalError: If the file would lie on one.
    """
    import psutil  # noqa: PLC0415 - readers need none

    folder = path.absolute().parent.resolve()
    mounts = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    kind = next((mounts[place] for place in (folder, *folder.parents) if place in mounts), "")
    if kind.lower() in _NETWORK:
        raise JournalError(
            f"The journal `{path}` must lie on a disk of this machine, its folder is mounted by {kind}; set "
            "`trader.journal` to a local path."
        )
