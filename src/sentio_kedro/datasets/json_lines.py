"""A ledger on disk: records are appended and never rewritten."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.atomic import append
from sentio_kedro.damage import fault_in_words
from sentio_kedro.datasets.records import RECORDS

Record = Mapping[str, Any]
UNFINISHED = b"<unfinished>"
"""End of a line that a killed process left, written with the next record; other lines that are no JSON are damage."""

_OBJECT = TypeAdapter(dict[str, Any])

logger = logging.getLogger(__name__)


class LedgerDataset(AbstractDataset[Record, list[dict[str, Any]]]):
    """JSON lines: saving appends one record, loading gives all of them in order, none where nothing was saved yet.

    Name the two sides of one ledger ``<name>@append`` and ``<name>@read`` in the catalog, with the same ``filepath``:
    Kedro then runs what reads after what appends.
    """

    def __init__(self, *, filepath: str, record: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Take the file.

        Args:
            filepath: A local file, made when the first record is saved.
            record: Kind of the records, one of ``RECORDS``; null takes any object.
            metadata: What Kedro's plugins read.
        """
        super().__init__()
        self._filepath = Path(filepath)
        self._record = _OBJECT if record is None else RECORDS[record]
        self.metadata = metadata

    def load(self) -> list[dict[str, Any]]:
        """Read all records; a line that a killed process left unfinished is skipped with a warning.

        Raises:
            DatasetError: If another line is no record.
        """
        *lines, last = self._filepath.read_bytes().split(b"\n") if self._filepath.exists() else [b""]
        records = []
        for number, line in enumerate([*lines, last], start=1):
            unfinished = line.endswith(UNFINISHED) or (number > len(lines) and not _is_json(line))
            if line and unfinished:
                logger.warning("Line %d of %s was never finished and is skipped.", number, self._filepath.name)
            elif line:
                records.append(self._read(number, line))
        return records

    def _read(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(line)
            self._record.validate_json(line, strict=True)
        except ValueError as error:
            raise DatasetError(
                f"Line {number} of `{self._filepath}` {fault_in_words(error)}. Correct it, or restore the file from a "
                "copy; delete the line only if it was never a record."
            ) from error
        return record

    def save(self, data: Record) -> None:
        """Append one record, unless the last one is the same: a command that was killed and typed again doubles none.

        Args:
            data: What JSON can hold, of the ledger's kind.

        Raises:
            DatasetError: If it is no such record.
            OSError: If it cannot be written, such as on a full disk; the ledger then is as it was.
        """
        try:
            line = json.dumps(dict(data), sort_keys=True, allow_nan=False).encode()
            self._record.validate_json(line, strict=True)
        except (TypeError, ValueError) as error:
            reason = fault_in_words(error) if isinstance(error, ValidationError) else error
            raise DatasetError(f"A record of {self._filepath.name} must be plain and finite: {reason}.") from error
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        if self._exists() and self._filepath.read_bytes().endswith(line + b"\n"):
            return
        append(self._filepath, self._end_of_last_line() + line + b"\n")

    def _end_of_last_line(self) -> bytes:
        """Return what ends the last line: nothing if it is whole, and a mark if it is no record."""
        last = self._filepath.read_bytes().rpartition(b"\n")[2] if self._filepath.exists() else b""
        if not last:
            return b""
        return b"\n" if _is_json(last) else UNFINISHED + b"\n"

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
