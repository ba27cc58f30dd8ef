"""Trained agents as one dataset: a folder of agent bundles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError

from sentio_kedro.datasets.atomic import replaced_folder

if TYPE_CHECKING:
    from sentio_kedro.agent.bundle import AgentBundle


class AgentBundles(AbstractDataset[Mapping[str, "AgentBundle"], dict[str, "AgentBundle"]]):
    """All agents of a training: ``{"fold_0/seed_1": AgentBundle}``, each in the folder that its key names.

    A save replaces the whole folder at once, so that agents of two trainings never mix.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Keep agents below ``filepath``.

        Args:
            filepath: Folder of the agents.
            metadata: Anything; read by plugins such as kedro-viz.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, AgentBundle]:
        """Read every agent, ordered by key."""
        from sentio_kedro.agent.bundle import AgentBundle  # noqa: PLC0415 - listing a catalog needs no torch

        folders = sorted(path.parent for path in self._filepath.rglob("agent.json"))
        if not folders:
            raise DatasetError(
                f"`{self._filepath}` must hold trained agents, was empty; run `kedro run --pipeline training`."
            )
        return {folder.relative_to(self._filepath).as_posix(): AgentBundle.load(folder) for folder in folders}

    def save(self, data: Mapping[str, AgentBundle]) -> None:
        """Replace all agents by ``data``."""
        with replaced_folder(self._filepath) as folder:
            for key, agent in data.items():
                (folder / key).parent.mkdir(parents=True, exist_ok=True)
                agent.save(folder / key)

    def _exists(self) -> bool:
        return any(self._filepath.rglob("agent.json"))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
