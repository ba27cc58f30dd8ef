"""Check artifacts before a run, and write the manifests of the stages that it completes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from sentio_kedro.hooks.artifacts import digest_of, file_hashes
from sentio_kedro.hooks.options import BAR_WRITERS, STORE_READERS, refuse_mixed_stages, refuse_unsafe_runs
from sentio_kedro.hooks.run_context import RunContext, require_fitting_stages, saved_artifacts
from sentio_kedro.locks import held_locks
from sentio_kedro.manifests import STAGES, explain_difference, tracked_identity

UNMANIFESTED = ("preflight", "lockbox", "search", "signals", "final", "external_test", *STORE_READERS, *BAR_WRITERS)
"""Pipelines that are checked before they run but write no manifest: no stage reads their artifacts."""

_REGISTRY_WRITERS = ("lockbox", "promotion", "rollback")


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
            sentio_kedro.locks.LockedError: If another process writes to the same artifacts.
            sentio_kedro.manifests.StaleArtifactsError: If an earlier stage is missing, does not fit or was damaged.
        """
        self._locks.close()  # an interrupt from the keyboard reaches no hook of Kedro's
        with ExitStack() as locks:
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
        if set(running) in ({"preflight"}, set(BAR_WRITERS)):  # the store has a lock of its own
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


def saved_names(node: Node) -> set[str]:
    """Return the datasets that ``node`` saves, or its own name if it saves none."""
    return set(node.outputs) or {node.name}


def registered_stages(chosen: Pipeline) -> dict[str, set[str]]:
    """Return the names of all nodes of each stage that has nodes in ``chosen``, stages without a manifest included.

    A node's namespace names its stage; no other pipeline is imported.
    """
    spaces = {(node.namespace or "").partition(".")[0] for node in chosen.nodes}
    stages = [stage for stage in (*STAGES, *UNMANIFESTED) if stage in spaces]
    return {stage: {node.name for node in pipelines[stage].nodes} for stage in stages}
