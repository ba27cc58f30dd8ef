"""Features as a dataset."""

from __future__ import annotations

from sentio_kedro.datasets.files import ParquetDataset
from sentio_kedro.market.features import Features


class FeaturesDataset(ParquetDataset):
    """``Features`` in a Parquet file, a row per bar of the grid and symbol; previews show its rows."""

    def load(self) -> Features:
        """Read the features."""
        return Features.from_frame(super().load())

    def save(self, data: Features) -> None:
        """Save the features."""
        super().save(data.to_frame())
