"""The ledger of trials with their returns, append-only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from sentio_kedro.atomic import replaced_file
from sentio_kedro.damage import reading
from sentio_kedro.datasets.json_lines import LedgerDataset

LEDGER, RETURNS = "trials.jsonl", "trial_returns"


@dataclass(frozen=True)
class TrialLedger:
    """Records of trials in one file, their returns in a folder next to it.

    Attributes:
        folder: Folder of both.
    """

    folder: Path

    def records(self) -> list[dict[str, Any]]:
        """Return all records in the order in which they were appended."""
        return self._ledger.load()

    def append(self, record: Mapping[str, Any], returns: pd.DataFrame | None = None) -> None:
        """Add a record, unless one is there that differs in its time alone; returns that are there stay as they are.

        Args:
            record: Plain values with the keys ``identity`` and ``rows``; it gets the key ``returns``, the name under
                which its returns are found.
            returns: Returns per bar; null if there are none.
        """
        name = f"{record['identity'][:16]}-{record['rows']}" if returns is not None else None
        if returns is not None and not self._path(str(name)).exists():
            with replaced_file(self._path(str(name)), shared=True) as partial:  # environments share the ledger
                returns.to_parquet(partial, index=False)
        added = json.loads(json.dumps({**record, "returns": name}))
        if not any({**entry, "time": None} == {**added, "time": None} for entry in self.records()):
            self._ledger.save(added)  # last: a record never names returns that are not there

    def returns(self, name: str) -> pd.DataFrame | None:
        """Return the returns per bar that a record names, None if their file is gone.

        Raises:
            DamagedFileError: If the file holds something else.
        """
        path = self._path(name)
        if not path.exists():
            return None
        with reading(path, "restore it from a copy, or delete it: the trial then counts without its returns"):
            frame = pd.read_parquet(path)
            times, returns = pd.to_datetime(frame["timestamp"], utc=True), frame["return"].astype("float64")
            if times.duplicated().any() or times.isna().any() or not np.isfinite(returns).all():
                raise ValueError("it must have one finite return for each timestamp")
        return frame

    def _path(self, name: str) -> Path:
        return self.folder / RETURNS / f"{name}.parquet"

    @property
    def _ledger(self) -> LedgerDataset:
        return LedgerDataset(filepath=str(self.folder / LEDGER), record="trial")


class TrialLedgerDataset(AbstractDataset[NoReturn, TrialLedger]):
    """The ledger of trials as a dataset: what a node loads is the ledger itself, which it appends to and reads."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Keep the ledger below ``filepath``.

        Args:
            filepath: A local folder, made when the first trial is recorded.
            metadata: Anything; read by plugins such as kedro-viz.
        """
        super().__init__()
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> TrialLedger:
        """Return the ledger."""
        return TrialLedger(self._filepath)

    def save(self, data: NoReturn) -> None:
        """Refuse: trials are recorded through the ledger that ``load`` returns."""
        raise DatasetError("Trials are recorded one by one through the ledger; a node must not return it.")

    def _exists(self) -> bool:
        return (self._filepath / LEDGER).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
