"""Trained agents and forecast rules, each as one dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sentio_kedro.datasets.saved_folders import SavedFolders

if TYPE_CHECKING:
    from sentio_kedro.agent.bundle import AgentBundle
    from sentio_kedro.agent.forecasting.rule import ForecastRule


class AgentBundles(SavedFolders["AgentBundle"]):
    """All agents of a training: ``{"fold_0/seed_1": AgentBundle}``."""

    marker, content, pipeline = "agent.json", "trained agents", "training"

    def read(self, folder: Path) -> AgentBundle:
        """Read one agent."""
        from sentio_kedro.agent.bundle import AgentBundle  # noqa: PLC0415 - listing a catalog needs no torch

        return AgentBundle.load(folder)


class ForecastRules(SavedFolders["ForecastRule"]):
    """The rule of each fold: ``{"fold_0": ForecastRule}``."""

    marker, content, pipeline = "rule.json", "forecast rules", "forecasting"

    def read(self, folder: Path) -> ForecastRule:
        """Read one rule."""
        from sentio_kedro.agent.forecasting.rule import ForecastRule  # noqa: PLC0415 - nor numba

        return ForecastRule.load(folder)
