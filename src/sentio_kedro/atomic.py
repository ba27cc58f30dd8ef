"""Writes that appear whole or not at all: to a hidden sibling first, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sentio_kedro.damage import is_full_disk


@contextmanager
def replaced_file(target: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a path to write to; afterwards it becomes ``target`` in one step.

    Args:
        target: The file to create or replace. Its folder is created.
        shared: Whether several processes may write it at once: each then has a sibling of its own. One that a killed
            process leaves is not tidied away.

    Yields:
        A hidden sibling of ``target``. If the body raises, it is removed and ``target`` stays as it was.

    Raises:
        OSError: With the target's path, if the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target.with_name(f"{os.getpid()}.{target.name}")) if shared else _partial(target)
    try:
        with naming_full_disk(target):
            yield partial
            _flush(partial)
            os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def append(path: Path, content: bytes) -> None:
    """Append to a file by one write, so that those of two processes do not mix.

    Raises:
        OSError: If not all of it could be written; what was is taken back.
    """
    with naming_full_disk(path), path.open("ab", buffering=0) as file:
        end = file.tell()
        written = 0
        try:
            written = file.write(content)
            if written < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            if os.fstat(file.fileno()).st_size == end + written:  # else another process has appended since
                file.truncate(end)
            raise


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Raise the many errors of a full disk as the one of the system, with the file's path.

    Raises:
        OSError: If the body fails for want of space.
    """
    try:
        yield
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; afterwards it becomes ``target`` as a whole.

    A kill between the two renames leaves no ``target``, never a mixture of old and new files.

    Args:
        target: The folder to create or replace.

    Yields:
        A hidden sibling of ``target``. If the body raises, it is removed and ``target`` stays as it was.

    Raises:
        OSError: With the target's path, if the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _partial(target), target.with_name(f".{target.name}.old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with naming_full_disk(target):
            partial.mkdir()
            yield partial
            for path in partial.rglob("*"):
                if path.is_file():
                    _flush(path)
            if target.exists():
                os.replace(target, old)
            os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _partial(target: Path) -> Path:
    # One fixed name: what a killed run leaves is overwritten by the next, and its suffix still tells the format.
    return target.with_name(f".partial.{target.name}")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
