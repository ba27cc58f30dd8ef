"""Kedro's file datasets with atomic saves, and loads that name a file and its fault; previews are Kedro's own."""

from __future__ import annotations

import copy
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from kedro.io import DatasetError
from kedro_datasets import json, pandas, plotly, text

from sentio_kedro.atomic import replaced_file
from sentio_kedro.damage import reading


class SafeFile:
    """Mixin for Kedro's file datasets: a local file is replaced in one step, and damage of it is told in words.

    Files on other file systems are saved as Kedro does.
    """

    _filepath: PurePosixPath
    _protocol: str
    _version: Any

    def load(self) -> Any:
        """Read the file.

        Raises:
            DamagedFileError: If it is missing or cannot be read, or ``decoded`` fails; Kedro makes it a DatasetError.
        """
        with reading(Path(self._filepath)):
            try:
                content = super().load()  # type: ignore[misc]
            except DatasetError as error:  # Kedro's own load says no more than what it caught
                raise error.__cause__ or error from None
            return self.decoded(content)

    def decoded(self, content: Any) -> Any:
        """Return what a load gives for the file's content."""
        return content

    def save(self, data: Any) -> None:
        """Save ``data`` so that a reader finds the old file or the new one, never a part."""
        if self._protocol != "file" or self._version is not None:
            super().save(data)  # type: ignore[misc]
            return
        with replaced_file(Path(self._filepath)) as partial:
            twin = copy.copy(self)
            twin._filepath = PurePosixPath(partial)
            super(SafeFile, twin).save(data)  # type: ignore[misc]

    def remove(self) -> None:
        """Delete the file if it is there."""
        Path(self._filepath).unlink(missing_ok=True)


class ParquetDataset(SafeFile, pandas.ParquetDataset):
    """A pandas frame in a Parquet file."""


class CSVDataset(SafeFile, pandas.CSVDataset):
    """A pandas frame in a CSV file."""


class JSONDataset(SafeFile, json.JSONDataset):
    """Plain data in a JSON file."""


class PlotlyDataset(SafeFile, plotly.JSONDataset):
    """A Plotly figure in a JSON file."""


class TextDataset(SafeFile, text.TextDataset):
    """Text, UTF-8 on every system."""

    DEFAULT_FS_ARGS: ClassVar[dict[str, Any]] = {
        "open_args_save": {"mode": "w", "encoding": "utf-8"},
        "open_args_load": {"mode": "r", "encoding": "utf-8"},
    }
