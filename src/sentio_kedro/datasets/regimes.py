"""Regime models as a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kedro_datasets._typing import JSONPreview

from sentio_kedro.datasets.files import JSONDataset

if TYPE_CHECKING:
    from sentio_kedro.market.regimes import RegimeModel


class RegimeModelsDataset(JSONDataset):
    """The ``RegimeModel`` of each fold, by its number, in a JSON file."""

    def load(self) -> dict[int, RegimeModel]:
        """Read the models."""
        from sentio_kedro.market.regimes import RegimeModel  # noqa: PLC0415 - listing a catalog needs no hmmlearn

        return {int(fold): RegimeModel.from_dict(values) for fold, values in super().load().items()}

    def save(self, data: Mapping[int, RegimeModel]) -> None:
        """Save the models."""
        super().save({str(fold): model.to_dict() for fold, model in data.items()})

    def preview(self) -> JSONPreview:
        """Return the content of the file."""
        return JSONDataset(filepath=str(self._filepath)).preview()
