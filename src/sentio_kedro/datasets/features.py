"""Features as a dataset."""

from __future__ import annotations

import pandas as pd

from sentio_kedro.datasets.files import ParquetDataset
from sentio_kedro.market.features import Features


class FeaturesDataset(ParquetDataset):
    """``Features`` in a Parquet file, a row per bar of the grid and symbol; previews show its rows."""

    def decoded(self, content: pd.DataFrame) -> Features:
        """Return the features."""
        return Features.from_frame(content)

    def save(self, data: Features) -> None:
        """Save the features."""
        super().save(data.to_frame())
