"""Writes that appear whole or not at all: to a hidden sibling first, then renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(target: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a path to write to; afterwards it becomes ``target`` in one step.

    Args:
        target: The file to create or replace. Its folder is created.
        shared: Whether several processes may write it at once: each then has a sibling of its own. One that a killed
            process leaves is not tidied away.

    Yields:
        A hidden sibling of ``target``. If the body raises, it is removed and ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target.with_name(f"{os.getpid()}.{target.name}")) if shared else _partial(target)
    try:
        yield partial
        _flush(partial)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; afterwards it becomes ``target`` as a whole.

    A kill between the two renames leaves no ``target``, never a mixture of old and new files.

    Args:
        target: The folder to create or replace.

    Yields:
        A hidden sibling of ``target``. If the body raises, it is removed and ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _partial(target), target.with_name(f".{target.name}.old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                _flush(path)
        if target.exists():
            os.replace(target, old)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _partial(target: Path) -> Path:
    # One fixed name: what a killed run leaves is overwritten by the next, and its suffix still tells the format.
    return target.with_name(f".partial.{target.name}")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
