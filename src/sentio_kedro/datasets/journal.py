"""The journal of a trader as frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from sentio_kedro.trader.journal.frames import FRAMES, frame_of
from sentio_kedro.trader.journal.store import JournalReader


class JournalDataset(AbstractDataset[NoReturn, pd.DataFrame]):
    """One frame of a trader's journal, read-only; also while the trader writes it."""

    def __init__(self, *, filepath: str, frame: str, metadata: dict[str, Any] | None = None) -> None:
        """Take the journal.

        Args:
            filepath: Its file, ``trader.journal`` of the environment.
            frame: ``accounts``, ``trades``, ``decisions``, ``bars`` or ``states``; see ``trader.journal.frames``.
            metadata: What Kedro's plugins read.

        Raises:
            DatasetError: If there is no such frame.
        """
        super().__init__()
        if frame not in FRAMES:
            raise DatasetError(f"`frame` of a JournalDataset must be one of {list(FRAMES)}, was {frame!r}.")
        self._filepath = Path(filepath)
        self._frame = frame
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Read the frame.

        Raises:
            DatasetError: If there is no journal, or it is damaged.
        """
        try:
            with JournalReader(self._filepath) as reader:
                return frame_of(reader, self._frame)
        except (FileNotFoundError, ValueError) as error:
            raise DatasetError(str(error)) from error

    def save(self, data: NoReturn) -> None:
        """Refuse: only a trader writes its journal."""
        raise DatasetError("Only `kedro trader` writes a journal; a node must not.")

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the last rows for Kedro-Viz."""
        rows = self.load().tail(nrows)
        return TablePreview(rows.astype(dict.fromkeys(rows.select_dtypes("datetimetz"), str)).to_dict(orient="split"))

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "frame": self._frame}
