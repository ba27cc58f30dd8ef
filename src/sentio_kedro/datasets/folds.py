"""Folds as a dataset."""

from __future__ import annotations

from kedro_datasets._typing import JSONPreview

from sentio_kedro.datasets.files import JSONDataset
from sentio_kedro.market.splits import Folds


class FoldsDataset(JSONDataset):
    """``Folds`` in a JSON file: spans, folds and lockbox by rows and dates."""

    def load(self) -> Folds:
        """Read the folds."""
        return Folds.from_dict(super().load())

    def save(self, data: Folds) -> None:
        """Save the folds."""
        super().save(data.to_dict())

    def preview(self) -> JSONPreview:
        """Return the content of the file."""
        return JSONDataset(filepath=str(self._filepath)).preview()
