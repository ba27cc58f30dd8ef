"""Kedro's file datasets with atomic saves; loading and previews are Kedro's own."""

from __future__ import annotations

import copy
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from kedro_datasets import json, pandas, plotly, text

from sentio_kedro.datasets.atomic import replaced_file


class AtomicSave:
    """Mixin for Kedro's file datasets: a local file is replaced in one step; other file systems save as before."""

    _filepath: PurePosixPath
    _protocol: str
    _version: Any

    def save(self, data: Any) -> None:
        """Save ``data`` so that a reader finds the old file or the new one, never a part."""
        if self._protocol != "file" or self._version is not None:
            super().save(data)  # type: ignore[misc]
            return
        with replaced_file(Path(self._filepath)) as partial:
            twin = copy.copy(self)
            twin._filepath = PurePosixPath(partial)
            super(AtomicSave, twin).save(data)  # type: ignore[misc]

    def remove(self) -> None:
        """Delete the file if it is there."""
        Path(self._filepath).unlink(missing_ok=True)


class ParquetDataset(AtomicSave, pandas.ParquetDataset):
    """A pandas frame in a Parquet file."""


class CSVDataset(AtomicSave, pandas.CSVDataset):
    """A pandas frame in a CSV file."""


class JSONDataset(AtomicSave, json.JSONDataset):
    """Plain data in a JSON file."""


class PlotlyDataset(AtomicSave, plotly.JSONDataset):
    """A Plotly figure in a JSON file."""


class TextDataset(AtomicSave, text.TextDataset):
    """Text, UTF-8 on every system."""

    DEFAULT_FS_ARGS: ClassVar[dict[str, Any]] = {
        "open_args_save": {"mode": "w", "encoding": "utf-8"},
        "open_args_load": {"mode": "r", "encoding": "utf-8"},
    }
