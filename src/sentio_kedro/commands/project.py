"""What a Kedro environment gives the trader: parameters, credentials and datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.config import AbstractConfigLoader, MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.project import settings
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol, DatasetError
from kedro.utils import find_kedro_project
from pydantic import SecretStr, TypeAdapter

from sentio_kedro.config.live.trader import TraderParameters

if TYPE_CHECKING:
    from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
    from sentio_kedro.trader.launch.models import ChosenAgents


class TraderProject:
    """One environment of the project.

    Attributes:
        path: The project's folder.
        env: Name of the environment; null is Kedro's default.
    """

    def __init__(self, env: str | None = None, params: Mapping[str, Any] | None = None) -> None:
        """Open the environment.

        Raises:
            ValueError: If its parameters are refused.
        """
        self.path = find_kedro_project(Path.cwd()) or Path.cwd()
        bootstrap_project(self.path)
        self.env, self._params = env or os.getenv("KEDRO_ENV"), dict(params or {})

    @cached_property
    def configuration(self) -> AbstractConfigLoader:
        """Kedro's loader of ``conf``: without a context, whose plugins take seconds that a halt has not."""
        return self._configuration(self.env)

    def _configuration(self, env: str | None) -> AbstractConfigLoader:
        source = str(self.path / settings.CONF_SOURCE)
        loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
            conf_source=source, env=env, runtime_params=self._params, **settings.CONFIG_LOADER_ARGS
        )
        return loader

    @cached_property
    def context(self) -> KedroContext:
        """Kedro's context."""
        return KedroSession.create(self.path, env=self.env, runtime_params=self._params).load_context()

    @cached_property
    def catalog(self) -> CatalogProtocol[Any, Any]:
        """The environment's catalog, made once."""
        return self.context.catalog

    @cached_property
    def parameters(self) -> TraderParameters:
        """The section ``trader``, checked."""
        return TypeAdapter(TraderParameters).validate_python(self.configuration["parameters"].get("trader", {}))

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.path / self.parameters.journal

    def credentials(self, entry: str | None) -> dict[str, SecretStr]:
        """Return an entry of ``credentials.yml``; nothing for null.

        Raises:
            ValueError: If there is no such entry.
        """
        if entry is None:
            return {}
        entries: dict[str, Any] = {}
        for loader in (self._configuration("local"), self.configuration):  # Kedro reads `local` in no other environment
            with suppress(MissingConfigException):
                entries |= loader["credentials"]
        if not isinstance(entries.get(entry), Mapping):
            raise ValueError(
                f"`{entry}` must be an entry of conf/local/credentials.yml, which has "
                f"{sorted(entries) or 'none'}; write "
                "it there, never into another file."
            )
        return {str(name): SecretStr(str(value)) for name, value in entries[entry].items()}

    def load(self, name: str) -> Any:
        """Load a dataset of the catalog.

        Raises:
            ValueError: If it was not made yet.
        """
        try:
            return self.catalog[name].load()
        except (DatasetError, FileNotFoundError) as error:
            from sentio_kedro.refusals import refusal_text  # noqa: PLC0415 - a dataset that is there needs none

            made = "kedro run" + (f" --env={self.env}" if self.env else "")
            reason = refusal_text(error) or error
            raise ValueError(f"The trader needs the dataset `{name}`, which `{made}` makes. {reason}") from error

    def aligned(self, dataset: str) -> AlignedBars:
        """Return bars as the pipelines align them."""
        from sentio_kedro.config import IngestionParameters, TradingParameters, UniverseParameters  # noqa: PLC0415
        from sentio_kedro.market.ingestion.bars import align_bars  # noqa: PLC0415 - pandas
        from sentio_kedro.market.ingestion.session_checks import placed_in_sessions  # noqa: PLC0415

        sections = self.context.params
        ingestion = TypeAdapter(IngestionParameters).validate_python(sections["ingestion"])
        leaving = TypeAdapter(UniverseParameters).validate_python(sections.get("universe", {}))
        trading = TypeAdapter(TradingParameters).validate_python(sections["trading"])
        members = self.load("universe") if "universe" in self.catalog else None
        bars = align_bars(self.load(dataset), ingestion, members, leaving)
        return placed_in_sessions(bars, ingestion, trading)

    def agents(self) -> ChosenAgents:
        """Return the agents that ``trader.model`` names.

        Raises:
            ValueError: If there are none.
        """
        from sentio_kedro.trader.launch.models import own_agents, registered_agents  # noqa: PLC0415 - torch

        if self.parameters.model == "agents":
            return own_agents(self.load("agents"), self.parameters.fold)
        from sentio_kedro.config import RegistryParameters  # noqa: PLC0415
        from sentio_kedro.tracking.client import use_store  # noqa: PLC0415 - mlflow

        registry = TypeAdapter(RegistryParameters).validate_python(self.context.params["registry"])
        use_store(str(self.context.mlflow.server.mlflow_tracking_uri))  # type: ignore[attr-defined]
        return registered_agents(self.parameters, registry.model, self.load("earlier_promotions"))
