"""Folds, and the regime model and the account of each fold, as datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro_datasets._typing import JSONPreview
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from sentio_kedro.datasets.files import JSONDataset
from sentio_kedro.market.folds import Folds

if TYPE_CHECKING:
    from sentio_kedro.market.regimes import RegimeModel


class _Rows(TypedDict):
    start: int
    stop: int
    first: str
    last: str


class _Fold(TypedDict):
    number: int
    train: list[_Rows]
    validation: list[_Rows]
    test: list[_Rows]


class _Folds(TypedDict):
    spans: dict[str, int]
    folds: list[_Fold]
    lockbox: _Rows | None


_FOLDS = TypeAdapter(_Folds)


class _ObjectDataset(JSONDataset):
    def preview(self) -> JSONPreview:
        """Return the content of the file."""
        return JSONPreview(Path(self._filepath).read_text())


class FoldsDataset(_ObjectDataset):
    """``Folds`` in a JSON file: spans, folds and lockbox by rows and dates."""

    def decoded(self, content: Any) -> Folds:
        """Return the folds."""
        _FOLDS.validate_python(content, strict=True)
        return Folds.from_dict(content)

    def save(self, data: Folds) -> None:
        """Save the folds."""
        super().save(data.to_dict())


class RegimeModelsDataset(_ObjectDataset):
    """The ``RegimeModel`` of each fold, by its number, in a JSON file."""

    def decoded(self, content: Any) -> dict[int, RegimeModel]:
        """Return the models."""
        from sentio_kedro.market.regimes import RegimeModel  # noqa: PLC0415 - listing a catalog needs no hmmlearn

        return {int(fold): RegimeModel.from_dict(values) for fold, values in content.items()}

    def save(self, data: Mapping[int, RegimeModel]) -> None:
        """Save the models."""
        super().save({str(fold): model.to_dict() for fold, model in data.items()})


class AccountStatesDataset(JSONDataset):
    """The ``Account`` of each fold, such as ``fold_0``, as plain data in a JSON file."""

    def decoded(self, content: Any) -> dict[str, Any]:
        """Return the accounts as they are, if each is one."""
        from sentio_kedro.serving.accounts import Account  # noqa: PLC0415 - listing a catalog needs no numba

        TypeAdapter(dict[str, Account]).validate_python(content)
        return dict(content)
