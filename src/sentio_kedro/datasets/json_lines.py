"""A ledger on disk: records are appended and never rewritten."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

Record = Mapping[str, Any]

logger = logging.getLogger(__name__)


class LedgerDataset(AbstractDataset[Record, list[dict[str, Any]]]):
    """JSON lines: saving appends one record, loading gives all of them in order, none where nothing was saved yet.

    Name the two sides of one ledger ``<name>@append`` and ``<name>@read`` in the catalog, with the same ``filepath``:
    Kedro then runs what reads after what appends.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Take the file.

        Args:
            filepath: A local file, made when the first record is saved.
            metadata: What Kedro's plugins read.
        """
        super().__init__()
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> list[dict[str, Any]]:
        """Read all records; a line that a killed process left unfinished is skipped with a warning."""
        lines = self._filepath.read_bytes().split(b"\n") if self._filepath.exists() else []
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                records += [json.loads(line)] if line else []
            except ValueError:
                logger.warning("Line %d of %s was never finished and is skipped.", number, self._filepath.name)
        return records

    def save(self, data: Record) -> None:
        """Append one record; earlier ones stay as they are.

        Args:
            data: What JSON can hold.
        """
        try:
            line = json.dumps(dict(data), sort_keys=True, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise DatasetError(f"A record of {self._filepath.name} must be plain and finite: {error}.") from error
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        with self._filepath.open("ab+") as file:
            if self._torn():
                line = b"\n" + line
            file.write(line)  # one write in append mode: records of two processes do not mix
            file.flush()
            os.fsync(file.fileno())

    def _torn(self) -> bool:
        """Return whether the last line has no end."""
        if not self._filepath.stat().st_size:
            return False
        with self._filepath.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
