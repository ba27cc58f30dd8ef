"""Files of bars of any vendor as a dataset."""

from __future__ import annotations

import glob
import logging
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from sentio_kedro.market.formats.reading import read_files
from sentio_kedro.market.formats.records import Reading

_LOG = logging.getLogger(__name__)


class BarFiles(AbstractDataset[NoReturn, pd.DataFrame]):
    """Files of bars as one long frame: vendors' exports, folders with one file a symbol, archives, databases.

    Args:
        filepath: A file, a folder, a glob, or a list of them.
        metadata: Kedro's own, such as for kedro-viz.
        reading: The keys of ``sentio_kedro.market.formats.Reading``.
    """

    def __init__(self, *, filepath: str | list[str], metadata: dict[str, Any] | None = None, **reading: Any) -> None:
        """Check the keys."""
        self._filepath = filepath
        self._reading = Reading(**reading)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Read the bars, and log what was left out or taken instead.

        Raises:
            BarFileError: If they cannot be read; Kedro makes it a DatasetError.
        """
        bars = read_files(self._filepath, self._reading)
        for line in bars.told:
            _LOG.info("%s", line)
        return bars.frame

    def save(self, data: NoReturn) -> None:
        """Refuse: vendors' files are read only.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("`BarFiles` only reads; save bars as `sentio_kedro.datasets.ParquetDataset`.")

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the first rows as kedro-viz shows them."""
        return TablePreview(self.load().head(nrows).astype(str).to_dict(orient="split"))

    def _exists(self) -> bool:
        paths = [self._filepath] if isinstance(self._filepath, str) else self._filepath
        return all(glob.glob(str(path)) for path in paths)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
