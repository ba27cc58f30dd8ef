"""A store of bars as a dataset: saving appends, loading gives the bars as they were known at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from sentio_kedro.store import StoredBars


class BarStore(AbstractDataset["pd.DataFrame | Callable[[StoredBars], object]", pd.DataFrame]):
    """Bars of vendors by source, symbol and year, in a folder or a bucket; see ``StoredBars``.

    Timestamps are bar ends in UTC: leave ``ingestion.bar_label`` at ``end``.
    """

    def __init__(
        self,
        *,
        filepath: str,
        load_args: dict[str, Any] | None = None,
        save_args: dict[str, Any] | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        version: Any = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the store's root.

        Args:
            filepath: A folder or an fsspec URL such as ``s3://bucket/bars``.
            load_args: ``symbols, start, end, as_of, columns, sources`` of ``StoredBars.read``.
            save_args: ``source``, the vendor's name, unless the frame has a column of that name; ``known_at``, null
                being now; ``rounding`` of ``StoredBars.append``.
            credentials: Of the file system, such as ``{key: ..., secret: ...}``.
            fs_args: Other options of the file system, such as ``{endpoint_url: ...}``.
            version: Refused: ``as_of`` gives earlier states.
            metadata: What Kedro's plugins read.

        Raises:
            DatasetError: If an argument is unknown, or the dataset is to be versioned.
        """
        super().__init__()
        if version is not None:
            raise DatasetError("A BarStore keeps every state itself: drop `versioned`, and set `load_args.as_of`.")
        self._filepath = filepath
        self._protocol = filepath.partition("://")[0] if "://" in filepath else "file"
        self._load_args = _known("load_args", load_args, StoredBars.read, ())
        self._save_args = _known("save_args", save_args, StoredBars.append, ("frame",))
        self._store = StoredBars(filepath, {**(credentials or {}), **(fs_args or {})})
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Read the bars that ``load_args`` ask for.

        Raises:
            DatasetError: If no bar was ever appended.
        """
        if not self._store.exists():
            raise DatasetError(f"The store `{self._filepath}` holds no bars; download or append some first.")
        return self._store.read(**self._load_args)

    def save(self, data: pd.DataFrame | Callable[[StoredBars], object]) -> None:
        """Append bars; those that are held as they are write nothing.

        Args:
            data: Bars, or a function that fills the opened store, such as a download that asks it how far it has come.

        Raises:
            DatasetError: If neither the bars nor ``save_args`` name the source.
        """
        if callable(data):
            data(self._store)
            return
        options = {"known_at": datetime.now(UTC), **self._save_args}
        if "source" in data:
            options.pop("source", None)
            for source, rows in data.groupby("source", sort=True):
                self._store.append(rows, str(source), **options)
        elif "source" in options:
            self._store.append(data, **options)
        else:
            raise DatasetError("Bars of a BarStore need a source: set `save_args.source`, or add a column `source`.")

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the last bars of the first symbol for Kedro-Viz."""
        arguments = self._load_args | {"symbols": self._load_args.get("symbols") or self._first_symbol()}
        rows = self._store.read(**arguments).tail(nrows)
        return TablePreview(rows.astype(dict.fromkeys(rows.select_dtypes("datetimetz"), str)).to_dict(orient="split"))

    def _first_symbol(self) -> list[str]:
        return self._store.watermarks(self._load_args.get("sources"))["symbol"].tolist()[:1]

    def _exists(self) -> bool:
        return self._store.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "load_args": self._load_args, "save_args": self._save_args}


def _known(name: str, given: dict[str, Any] | None, method: Any, taken: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments ``given`` for a method.

    Raises:
        DatasetError: If one is unknown.
    """
    names = [key for key in inspect.signature(method).parameters if key not in ("self", *taken)]
    unknown = sorted(set(given or {}) - set(names))
    if unknown:
        raise DatasetError(f"`{name}` of a BarStore has no {unknown}; choose among {names}.")
    return {key: value for key, value in (given or {}).items() if value is not None}
