"""Faults of files in words, and hashes that show them."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

_PROBLEMS = 5  # told of one file
_WITH_PATH = re.compile(r"^Could not open Parquet input source '.*?': ")
_FULL = ("No space left on device", "os error 28", "disk is full", "Disk quota exceeded")


class DamagedFileError(ValueError):
    """A file is missing, cannot be read, or holds something else than was written."""


@contextmanager
def reading(path: Path, remedy: str = "") -> Iterator[None]:
    """Name the file, its fault and the remedy if the body fails.

    Args:
        path: The file that the body reads.
        remedy: Clause to end the sentence; may be empty.

    Raises:
        DamagedFileError: If the body raises anything else than that.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:
        end = f"; {remedy}" if remedy else ""
        raise DamagedFileError(f"`{path}` {fault_in_words(error)}{end}.") from error


def fault_in_words(error: Exception) -> str:
    """Return what is wrong with a file, the predicate of a sentence, from the error of reading it."""
    reason = _WITH_PATH.sub("", (str(error).splitlines() or [type(error).__name__])[0].rstrip("."))
    text = f"cannot be read ({reason})"
    if isinstance(error, FileNotFoundError):
        text = "is missing"
    elif isinstance(error, OSError) and error.strerror:
        text = f"cannot be read ({error.strerror})"
    elif isinstance(error, json.JSONDecodeError):
        text = f"is not whole JSON (line {error.lineno}, column {error.colno}: {error.msg})"
    elif isinstance(error, UnicodeDecodeError):
        text = f"is not UTF-8 text (byte {error.start})"
    elif isinstance(error, KeyError):
        text = f"lacks {error}"
    elif isinstance(error, ValidationError):
        problems = [f"`{'.'.join(map(str, one['loc'])) or 'all of it'}`: {one['msg']}" for one in error.errors()]
        text = f"has another form than is saved here ({'; '.join(problems[:_PROBLEMS])})"
    elif isinstance(error, AttributeError | TypeError | IndexError):
        text = f"has another form than is saved here ({reason})"
    return text


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_full_disk(error: BaseException) -> bool:
    """Return whether a write failed for want of space; libraries also say so in errors of their own."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or any(text in str(error) for text in _FULL)
