"""Check artifacts before a run, and write the manifests of the stages that it completes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from sentio_kedro.hooks.artifacts import digest_of, explain_files, file_hashes
from sentio_kedro.hooks.locks import held_locks
from sentio_kedro.hooks.options import (
    STORE_READERS,
    readable_refusals,
    refuse_mixed_stages,
    refuse_unsafe_runs,
    repeated_options,
)
from sentio_kedro.manifests import (
    STAGES,
    Manifest,
    expected_manifest,
    explain_difference,
    flatten_parameters,
    require_manifests,
    tracked_identity,
    upstream_stages,
)
from sentio_kedro.market.ingestion.bars import bars_hash

if TYPE_CHECKING:  # the datasets import torch, which slows every kedro command
    from sentio_kedro.datasets.checkpoints import CheckpointStoreDataset
    from sentio_kedro.datasets.files import JSONDataset

UNMANIFESTED = ("preflight", "lockbox", "search", "signals", "final", "external_test", *STORE_READERS)
"""Pipelines that are checked before they run but write no manifest: no stage reads their artifacts."""

_REGISTRY_WRITERS = ("lockbox", "promotion", "rollback")


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
        try:
            return bars_hash(self.catalog["bars"].load())
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


class StageManifests:
    """Checks before a run that earlier stages fit it, and writes each stage's manifest after all its artifacts.

    A manifest holds the hashes of the stage's artifacts and of what it read. It is replaced when the stage is whole
    again: until then the artifacts that the stage has replaced do not match it.

    Attributes:
        run_context: Context of the present or last run, None before the first.
    """

    def __init__(self) -> None:
        self.run_context: RunContext | None = None
        self._folders: dict[str, Path] = {}
        self._locks = ExitStack()
        self._stage_of: dict[str, str] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._hashes: dict[str, dict[str, str] | None] = {}
        self._lock = Lock()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the folders that a run writes to."""
        names = context.config_loader["globals"]
        folders = {key: str(names[key]) for key in ("artifacts", "registry") if key in names}
        self._folders = {key: Path(context.project_path) / path for key, path in folders.items() if "://" not in path}

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Stop before any work if the run cannot be done safely.

        Raises:
            ValueError: If the runner or an option could mix artifacts.
            sentio_kedro.hooks.locks.LockedError: If another process writes to the same artifacts.
            sentio_kedro.manifests.StaleArtifactsError: If an earlier stage is missing, does not fit or was damaged.
        """
        self._locks.close()  # an interrupt from the keyboard reaches no hook of Kedro's
        with readable_refusals(), ExitStack() as locks:
            refuse_unsafe_runs(run_params, catalog)
            stages = registered_stages(pipeline)
            chosen = {node.name: node for node in pipeline.nodes}
            running = {stage: names & chosen.keys() for stage, names in stages.items() if names & chosen.keys()}
            refuse_mixed_stages(running.keys())
            written = [self._folders[key] for key in self._written(running) if key in self._folders]
            locks.push(held_locks(written, f"kedro run: {', '.join(running)}"))
            complete = {stage for stage, names in running.items() if names == stages[stage]}
            self._prepare(run_params, pipeline, RunContext.of(catalog), running, complete)
            self._locks = locks.pop_all()

    @staticmethod
    def _written(running: Collection[str]) -> list[str]:
        if set(running) == {"preflight"}:
            return []
        return ["artifacts", "registry"] if set(_REGISTRY_WRITERS) & set(running) else ["artifacts"]

    def _prepare(
        self,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        context: RunContext,
        running: Mapping[str, set[str]],
        complete: set[str],
    ) -> None:
        partial = {stage: context.saved(stage) for stage in running.keys() - complete - set(UNMANIFESTED)}
        require_fitting_stages(context, run_params, running.keys(), complete, pipeline.inputs())
        self.run_context = context
        rewritten = complete | {
            stage for stage, saved in partial.items() if explain_difference(saved, context.expected(stage)) is None
        }
        stage_names = [stage for stage in STAGES if stage in running]
        self._stage_of = {name: stage for stage in stage_names for name in running[stage]}
        nodes = {node.name: node for node in pipeline.nodes}
        self._unsaved = {
            stage: {key for name in running[stage] for key in saved_names(nodes[name])}
            for stage in stage_names
            if stage in rewritten
        }
        self._hashes = {}

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str) -> None:
        """Bind the checkpoints to the agents of this run before a node loads them."""
        if dataset_name == "checkpoints" and self.run_context is not None:
            self.run_context.checkpoints.bind(tracked_identity(self.run_context.expected("training").digest))

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Mark a node that saves nothing as done."""
        if not node.outputs:
            self._mark(node, node.name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Write the stage's manifest once all its datasets are saved."""
        if self.run_context is not None and node.name in self._stage_of:
            self._hashes[dataset_name] = file_hashes(self.run_context.catalog[dataset_name])
        self._mark(node, dataset_name)

    def _mark(self, node: Node, name: str) -> None:
        stage = self._stage_of.get(node.name, "")
        with self._lock:
            unsaved = self._unsaved.get(stage)
            if unsaved is None or self.run_context is None:
                return
            unsaved.discard(name)
            if unsaved:
                return
            del self._unsaved[stage]
            self.run_context.dataset(stage).save(self._record(stage, self.run_context))
            if stage == "training":
                self.run_context.checkpoints.remove()

    def _record(self, stage: str, context: RunContext) -> dict[str, Any]:
        manifest, nodes = context.expected(stage), pipelines[stage]
        # Of a stage that ran in part, the other artifacts are those of the manifest that fits.
        earlier = saved_artifacts(context)
        hashes = {name: self._hashes.get(name, earlier.get(name)) for name in nodes.all_outputs() | nodes.inputs()}
        kept = [(name, files) for name, files in sorted(hashes.items()) if files]
        return {
            **manifest.to_dict(),
            "digest": manifest.digest,
            "artifacts": {name: files for name, files in kept if name in nodes.all_outputs()},
            "read": {name: digest_of(files) for name, files in kept if name in nodes.inputs()},
        }

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Free the locks."""
        self._locks.close()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Free the locks."""
        self._locks.close()


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
    clauses = {}
    for stage, record in saved.items():
        artifacts = {} if record is None or stage in running else record.get("artifacts", {})
        for name in sorted(artifacts.keys() & inputs):
            found = explain_files(artifacts[name], file_hashes(context.catalog[name]) or {})
            if found:
                clauses[stage] = f"`{name}` is not what `{stage}` saved: {found}"
    return clauses


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


def saved_names(node: Node) -> set[str]:
    """Return the datasets that ``node`` saves, or its own name if it saves none."""
    return set(node.outputs) or {node.name}


def stages_read(stage: str) -> tuple[str, ...]:
    """Return the stages whose artifacts the pipeline ``stage`` reads and that must fit.

    Args:
        stage: Name of a pipeline.
    """
    if stage in ("preflight", "signals") or stage in STORE_READERS:
        return ()  # agents decide on newer bars than they were trained on
    trained = upstream_stages("training")
    others = {"search": trained, "lockbox": (*trained, "training"), "final": (*trained, "training", "backtest")}
    return others[stage] if stage in others else upstream_stages(stage)


def registered_stages(chosen: Pipeline) -> dict[str, set[str]]:
    """Return the names of all nodes of each stage that has nodes in ``chosen``, stages without a manifest included.

    A node's namespace names its stage; no other pipeline is imported.
    """
    spaces = {(node.namespace or "").partition(".")[0] for node in chosen.nodes}
    stages = [stage for stage in (*STAGES, *UNMANIFESTED) if stage in spaces]
    return {stage: {node.name for node in pipelines[stage].nodes} for stage in stages}
