"""A run and the manifests of the stages before it: what is missing, does not fit or was changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from kedro.io import DataCatalog
from pydantic import TypeAdapter

from sentio_kedro.config import IngestionParameters
from sentio_kedro.hooks.artifacts import digest_of, explain_files, file_hashes
from sentio_kedro.hooks.options import BAR_WRITERS, STORE_READERS, repeated_options
from sentio_kedro.manifests import (
    STAGES,
    Manifest,
    expected_manifest,
    flatten_parameters,
    require_manifests,
    upstream_stages,
)
from sentio_kedro.market.ingestion.bars import bars_hash
from sentio_kedro.market.ingestion.own_columns import feed_columns

if TYPE_CHECKING:  # the datasets import torch, which slows every kedro command
    from sentio_kedro.datasets.checkpoints import CheckpointStoreDataset
    from sentio_kedro.datasets.files import JSONDataset

BARS_HASH = "bars_hash"
"""Dataset that holds the hash of the raw bars, if a hook has loaded them in this run."""


@dataclass
class RunContext:
    """Catalog, parameters and hash of the bars of a run, read once and only when needed.

    Attributes:
        catalog: The run's catalog.
        parameters: Flattened parameters of all sections.
    """

    catalog: DataCatalog
    parameters: Mapping[str, Any]

    @classmethod
    def of(cls, catalog: DataCatalog) -> RunContext:
        """Read the parameters of ``catalog``."""
        return cls(catalog, flatten_parameters(catalog["parameters"].load()))

    @cached_property
    def bars_hash(self) -> str:
        """Hash of the raw bars, read without the checks of ingestion."""
        if BARS_HASH in self.catalog:
            return str(self.catalog[BARS_HASH].load())
        ingestion = TypeAdapter(IngestionParameters).validate_python(self.catalog["parameters"].load()["ingestion"])
        try:
            return bars_hash(self.catalog["bars"].load(), feed_columns(ingestion), universe_table(self.catalog))
        except (KeyError, TypeError, ValueError):
            self.catalog.load("bars")  # raises an error that lists all problems of the bars
            raise

    def expected(self, stage: str) -> Manifest:
        """Return the manifest that ``stage`` has in this run."""
        return expected_manifest(stage, self.bars_hash, self.parameters)

    def saved(self, stage: str) -> dict[str, Any] | None:
        """Return the manifest that an earlier run saved, or None."""
        dataset = self.dataset(stage)
        return dict(dataset.load()) if dataset.exists() else None

    def dataset(self, stage: str) -> JSONDataset:
        """Return the dataset of a stage's manifest."""
        return cast("JSONDataset", self.catalog[f"{stage}_manifest"])

    @property
    def checkpoints(self) -> CheckpointStoreDataset:
        """The dataset of the training's checkpoints."""
        return cast("CheckpointStoreDataset", self.catalog["checkpoints"])


def universe_table(catalog: DataCatalog) -> Any:
    """Load the table of a dated universe; null without one."""
    return catalog["universe"].load() if "universe" in catalog else None


def require_fitting_stages(
    context: RunContext,
    run_params: Mapping[str, Any],
    running: Collection[str],
    complete: Collection[str],
    inputs: Collection[str],
) -> None:
    """Stop if an earlier stage is missing, does not fit the run, or left artifacts that were changed since.

    Args:
        context: The run.
        run_params: Its options, for the remedy.
        running: Pipelines of which a node runs.
        complete: Those of which all nodes run.
        inputs: Datasets that the run reads and does not make.

    Raises:
        sentio_kedro.manifests.StaleArtifactsError: With every problem and the pipelines to rerun.
    """
    needed = {earlier for stage in running for earlier in stages_read(stage)} - set(complete)
    present = {"training", "backtest"} - set(complete) if "signals" in running else set()
    present |= {"ingestion", "cross_validation", "training"} - set(complete) if "promotion" in running else set()
    saved = {stage: context.saved(stage) for stage in STAGES if stage not in complete}
    require_manifests(
        {stage: saved[stage] for stage in needed | present},
        {stage: context.expected(stage) for stage in needed},
        present=present,
        damaged=damaged_stages(context, saved, set(inputs), running) | outdated_stages(saved, needed | present),
        options=repeated_options(run_params),
    )


def damaged_stages(
    context: RunContext,
    saved: Mapping[str, Mapping[str, Any] | None],
    inputs: Collection[str],
    running: Collection[str],
) -> dict[str, str]:
    """Return a clause for each stage of whose artifacts a file that the run reads was changed, by stage.

    A stage that runs in part may read what its other nodes have made since.
    """
    clauses: dict[str, list[str]] = {}
    for stage, record in saved.items():
        artifacts = {} if record is None or stage in running else record.get("artifacts", {})
        for name in sorted(artifacts.keys() & inputs):
            found = explain_files(artifacts[name], file_hashes(context.catalog[name]) or {})
            if found:
                clauses.setdefault(stage, []).append(f"`{name}` is not what `{stage}` saved: {found}")
    return {stage: "\n- ".join(found) for stage, found in clauses.items()}


def outdated_stages(saved: Mapping[str, Mapping[str, Any] | None], needed: Collection[str]) -> dict[str, str]:
    """Return a clause for each stage that read an artifact which was made anew since, by stage."""
    made = {
        name: (digest_of(files), stage)
        for stage, record in saved.items()
        for name, files in (record or {}).get("artifacts", {}).items()
    }
    clauses = {}
    for stage in needed:
        record = saved[stage] or {"artifacts": {}}
        if "artifacts" not in record:
            clauses[stage] = f"`{stage}` was run by an earlier version, which kept no hashes of artifacts"
        for name, digest in record.get("read", {}).items():
            now, maker = made.get(name, (digest, ""))
            if now != digest:
                clauses[stage] = f"`{stage}` was made from an earlier `{name}` of `{maker}`"
    return clauses


def saved_artifacts(context: RunContext) -> dict[str, dict[str, str]]:
    """Return the hashes of all artifacts that manifests hold, by dataset."""
    records = [context.saved(stage) or {} for stage in STAGES]
    return {name: files for record in records for name, files in record.get("artifacts", {}).items()}


def stages_read(stage: str) -> tuple[str, ...]:
    """Return the stages whose artifacts the pipeline ``stage`` reads and that must fit.

    Args:
        stage: Name of a pipeline.
    """
    if stage in ("preflight", "signals") or stage in (*STORE_READERS, *BAR_WRITERS):
        return ()  # agents decide on newer bars than they were trained on
    trained = upstream_stages("training")
    others = {"search": trained, "lockbox": (*trained, "training"), "final": (*trained, "training", "backtest")}
    return others[stage] if stage in others else upstream_stages(stage)
