"""Fitted objects as one dataset: a folder of the folders that they save themselves in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from kedro.io import AbstractDataset, DatasetError

from sentio_kedro.agent.saving import indexed_folders, write_index
from sentio_kedro.atomic import replaced_folder


class Savable(Protocol):
    """An object that writes itself into a folder."""

    def save(self, folder: Path) -> None:
        """Write the object into ``folder``."""
        ...


T = TypeVar("T", bound=Savable)


class SavedFolders(AbstractDataset[Mapping[str, T], dict[str, T]]):
    """Objects by key, such as ``{"fold_0/seed_1": agent}``, each in the folder that its key names.

    A save replaces the whole folder at once, so that objects of two runs never mix. Its index names them, so that none
    is missed.

    Attributes:
        marker: File that each object's folder has.
        content: What is saved, for messages.
        pipeline: Pipeline that saves it.
    """

    marker: ClassVar[str]
    content: ClassVar[str]
    pipeline: ClassVar[str]

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Keep objects below ``filepath``.

        Args:
            filepath: Folder of the objects.
            metadata: Anything; read by plugins such as kedro-viz.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    @abstractmethod
    def read(self, folder: Path) -> T:
        """Read one object."""

    def load(self) -> dict[str, T]:
        """Read every object, ordered by key."""
        remedy = f"run `kedro run --pipeline {self.pipeline}`"
        if not self._exists():
            raise DatasetError(f"`{self._filepath}` must hold {self.content}, was empty; {remedy}.")
        folders = indexed_folders(self._filepath, self.marker, f"{remedy} again")
        return {name: self.read(folder) for name, folder in folders.items()}

    def save(self, data: Mapping[str, T]) -> None:
        """Replace all objects by ``data``."""
        with replaced_folder(self._filepath) as folder:
            for key, value in data.items():
                (folder / key).parent.mkdir(parents=True, exist_ok=True)
                value.save(folder / key)
            write_index(folder, self.marker)

    def _exists(self) -> bool:
        return any(self._filepath.rglob(self.marker))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
