"""Checkpoints of a training under way: safetensors files that a killed run continues from."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kedro.io import AbstractDataset, DatasetError
from safetensors import SafetensorError, safe_open

from sentio_kedro.atomic import replaced_file

if TYPE_CHECKING:
    import torch

_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_IDENTITY_LENGTH = 16

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointStore:
    """Named checkpoints below one folder, each one file with tensors and a JSON state. Nothing is pickled.

    Attributes:
        folder: Where the files are.
    """

    folder: Path

    def load(self, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Read the checkpoint ``key``: its tensors (on the CPU) and its state, or None if there is none.

        Raises:
            ValueError: If the file is not a checkpoint.
        """
        path = self._path(key)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}
                return tensors, json.loads(file.metadata()["state"])
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"Checkpoint `{path}` must be a safetensors file with a state, was unreadable ({error}); delete it, "
                "training then starts that part again."
            ) from error

    def save(self, key: str, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Replace the checkpoint ``key`` in one step.

        Args:
            key: Name, such as ``fold_0/seed_1/member_0``.
            tensors: Tensors of any device; they come back bit for bit.
            state: JSON-able values.
        """
        from safetensors.torch import save_file  # noqa: PLC0415 - listing a catalog needs no torch

        owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        with replaced_file(self._path(key)) as partial:
            save_file(owned, partial, metadata={"state": json.dumps(dict(state))})

    def clear(self) -> None:
        """Delete every checkpoint of this store."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"`key` must be names of letters, digits, - and _ joined by /, was {key!r}; for example "
                "`fold_0/seed_1/member_0`."
            )
        return self.folder / f"{key}.safetensors"


class CheckpointStoreDataset(AbstractDataset[NoReturn, CheckpointStore]):
    """The store of checkpoints as a dataset: what a node loads is the store itself."""

    _SINGLE_PROCESS = True

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Keep checkpoints below ``filepath``.

        Args:
            filepath: Folder of the checkpoints.
            metadata: Anything; read by plugins such as kedro-viz.
        """
        self._filepath = Path(filepath)
        self._identity: str | None = None
        self.metadata = metadata

    def bind(self, identity: str) -> None:
        """Tie the store to what is being trained: checkpoints of anything else stay where they are, and are named.

        Args:
            identity: Digest of bars, parameters and code.
        """
        self._identity = identity[:_IDENTITY_LENGTH]
        others = [path for path in self._filepath.glob("*") if path.is_dir() and path.name != self._identity]
        if others and not (self._filepath / self._identity).exists():
            logger.warning(
                "The checkpoints in %s are of other bars, parameters or code; the training starts afresh.",
                self._filepath.as_posix(),
            )

    def load(self) -> CheckpointStore:
        """Return the store."""
        return CheckpointStore(self._filepath / self._identity if self._identity else self._filepath)

    def save(self, data: NoReturn) -> None:
        """Refuse: checkpoints are saved through the store that ``load`` returns."""
        raise DatasetError("Checkpoints are saved one by one through the store; a node must not return them.")

    def remove(self) -> None:
        """Delete the checkpoints of all trainings."""
        shutil.rmtree(self._filepath, ignore_errors=True)

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
