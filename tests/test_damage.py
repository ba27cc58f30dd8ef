"""Faults of files in words."""

import errno
import hashlib
import json
from pathlib import Path

import pytest

from sentio_kedro.damage import DamagedFileError, fault_in_words, is_full_disk, reading, sha256


def json_error(text: str) -> Exception:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), "is missing"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "cannot be read (Permission denied)"),
        (json_error('{"a": '), "is not whole JSON (line 1, column 7: Expecting value)"),
        (UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "invalid"), "is not UTF-8 text (byte 1)"),
        (KeyError("folds"), "lacks 'folds'"),
        (TypeError("int is not iterable"), "has another form than is saved here (int is not iterable)"),
        (ValueError("no footer.\nmore"), "cannot be read (no footer)"),
        (ValueError(), "cannot be read (ValueError)"),
    ],
)
def test_each_fault_has_words(error, words):
    assert fault_in_words(error) == words


def test_reading_names_file_fault_and_remedy_once():
    with (
        pytest.raises(DamagedFileError, match=r"^`b\.json` lacks 'x'; run it again\.$") as damaged,
        reading(Path("a"), "other"),
        reading(Path("b.json"), "run it again"),
    ):
        raise KeyError("x")
    assert isinstance(damaged.value.__cause__, KeyError)


def test_too_little_memory_is_no_fault_of_the_file():
    with pytest.raises(MemoryError), reading(Path("a"), ""):
        raise MemoryError


def test_a_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_full_disk_is_recognised_in_errors_of_other_libraries():
    assert is_full_disk(OSError(errno.ENOSPC, ""))
    assert is_full_disk(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_full_disk(OSError(errno.EIO, "Input/output error"))
