"""Locks between processes: one writer per folder of artifacts, per registry and per journal of a trader."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout


class LockedError(RuntimeError, ValueError):
    """Another process writes to the same folder."""


def lock_of(folder: Path) -> Path:
    """Return the lock file of a folder: beside it, so that the folder itself stays as it is."""
    return folder.parent / f".{folder.name}.lock"


def held_locks(folders: Sequence[Path], command: str, patience: float = 0.0) -> ExitStack:
    """Lock folders for this process; the system frees the locks of a process that ends in any way.

    Args:
        folders: Folders or files to write to; they need not exist.
        command: What this process does, told to those that come later.
        patience: Seconds to wait for another process.

    Returns:
        A stack whose ``close`` frees the locks.

    Raises:
        LockedError: If another process holds one; none is held then.
    """
    with ExitStack() as stack:
        for folder in folders:
            path = lock_of(folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=patience, thread_local=False)
            try:
                stack.enter_context(lock)
            except Timeout:
                raise LockedError(
                    f"`{folder.name}` must have one writer at a time, is written by {_owner(path)}; wait until it has "
                    "ended, or stop it."
                ) from None
            path.write_text(json.dumps(_myself(command)))
        return stack.pop_all()


def writer_of(folder: Path) -> str | None:
    """Return who holds the lock of a folder or file, in words; None if nobody does."""
    path = lock_of(folder)
    if not path.exists():
        return None
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(path)
    return None


def _myself(command: str) -> dict[str, str | int]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": now, "command": command}


def _owner(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        owner = json.loads(path.read_text())
        return f"process {owner['process']} on {owner['host']} (`{owner['command']}`) since {owner['since']}"
    return "another process"
