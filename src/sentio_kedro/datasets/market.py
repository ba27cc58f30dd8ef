"""Aligned bars and features as datasets."""

from __future__ import annotations

import pandas as pd

from sentio_kedro.datasets.files import ParquetDataset
from sentio_kedro.market.features import Features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_from_frame, aligned_to_frame


class AlignedBarsDataset(ParquetDataset):
    """``AlignedBars`` in a Parquet file of long bars, a row per present bar; previews show its rows."""

    def decoded(self, content: pd.DataFrame) -> AlignedBars:
        """Return the bars; what ingestion checked is not checked again."""
        return aligned_from_frame(content)

    def save(self, data: AlignedBars) -> None:
        """Save the present bars."""
        super().save(aligned_to_frame(data))


class FeaturesDataset(ParquetDataset):
    """``Features`` in a Parquet file, a row per bar of the grid and symbol; previews show its rows."""

    def decoded(self, content: pd.DataFrame) -> Features:
        """Return the features."""
        return Features.from_frame(content)

    def save(self, data: Features) -> None:
        """Save the features."""
        super().save(data.to_frame())
