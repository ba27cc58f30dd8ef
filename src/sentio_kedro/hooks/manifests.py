"""Check artifacts before a run, and write the manifests of the stages that it completes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import click
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, SharedMemoryDataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from sentio_kedro.manifests import (
    STAGES,
    Manifest,
    dotted_values,
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

STORE_READERS = ("comparison", "promotion", "rollback")
"""Pipelines that read finished runs from MLflow; of earlier stages they need none, or any result."""

TRACKED_STAGES = ("training", "backtest", "reporting", "search", "lockbox", "external_test")
"""Stages that log to MLflow."""

UNMANIFESTED = ("lockbox", "search", "signals", "final", "external_test", *STORE_READERS)
"""Pipelines that are checked before they run but write no manifest: no stage reads their artifacts."""


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

    Attributes:
        run_context: Context of the present or last run, None before the first.
    """

    def __init__(self) -> None:
        self.run_context: RunContext | None = None
        self._stage_of: dict[str, str] = {}
        self._unstarted: set[str] = set()
        self._unsaved: dict[str, set[str]] = {}
        self._lock = Lock()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Stop before any work if the run cannot be done safely.

        Raises:
            ValueError: If the runner or an option could mix artifacts.
            sentio_kedro.manifests.StaleArtifactsError: If an earlier stage is missing or does not fit.
        """
        with readable_refusals():
            refuse_unsafe_runs(run_params, catalog)
            self._prepare(run_params, pipeline, catalog)

    def _prepare(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        stages = registered_stages()
        chosen = {node.name: node for node in pipeline.nodes}
        running = {stage: names & chosen.keys() for stage, names in stages.items() if names & chosen.keys()}
        refuse_mixed_stages(running.keys())
        complete = {stage for stage, names in running.items() if names == stages[stage]}
        context = RunContext.of(catalog)
        partial = {stage: context.saved(stage) for stage in running.keys() - complete - set(UNMANIFESTED)}
        self._check(context, run_params, running.keys(), complete)
        self.run_context = context
        rewritten = complete | {
            stage for stage, saved in partial.items() if explain_difference(saved, context.expected(stage)) is None
        }
        stage_names = [stage for stage in STAGES if stage in running]
        self._stage_of = {name: stage for stage in stage_names for name in running[stage]}
        self._unstarted = set(stage_names)
        self._unsaved = {
            stage: {key for name in running[stage] for key in saved_names(chosen[name])}
            for stage in stage_names
            if stage in rewritten
        }

    @staticmethod
    def _check(context: RunContext, run_params: dict[str, Any], running: Collection[str], complete: set[str]) -> None:
        needed = {earlier for stage in running for earlier in stages_read(stage)} - complete
        present = {"training", "backtest"} - complete if "signals" in running else set()
        present |= {"ingestion", "cross_validation", "training"} - complete if "promotion" in running else set()
        require_manifests(
            {stage: context.saved(stage) for stage in needed | present},
            {stage: context.expected(stage) for stage in needed},
            present=present,
            options=repeated_options(run_params),
        )

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Delete a stage's manifest before its first node; training also deletes those of the stages that read it."""
        stage = self._stage_of.get(node.name)
        with self._lock:
            if self.run_context is None or stage not in self._unstarted:
                return
            self._unstarted.discard(stage)
            self.run_context.dataset(stage).remove()
            if stage == "training":  # the same parameters need not make the same agents
                for later in STAGES[STAGES.index(stage) + 1 :]:
                    if stage in (self.run_context.saved(later) or {}).get("upstream", {}):
                        self.run_context.dataset(later).remove()

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
            manifest = self.run_context.expected(stage)
            record = {**manifest.to_dict(), "digest": manifest.digest}
            self.run_context.dataset(stage).save(record)
            if stage == "training":
                self.run_context.checkpoints.remove()


@contextmanager
def readable_refusals() -> Iterator[None]:
    """On the command line, show a ``ValueError`` without a traceback."""
    try:
        yield
    except ValueError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from error


def saved_names(node: Node) -> set[str]:
    """Return the datasets that ``node`` saves, or its own name if it saves none."""
    return set(node.outputs) or {node.name}


def stages_read(stage: str) -> tuple[str, ...]:
    """Return the stages whose artifacts the pipeline ``stage`` reads and that must fit.

    Args:
        stage: Name of a pipeline.
    """
    if stage == "signals" or stage in STORE_READERS:
        return ()  # agents decide on newer bars than they were trained on
    trained = upstream_stages("training")
    others = {"search": trained, "lockbox": (*trained, "training"), "final": (*trained, "training", "backtest")}
    return others[stage] if stage in others else upstream_stages(stage)


def registered_stages() -> dict[str, set[str]]:
    """Return the names of each registered stage's nodes, stages without a manifest included."""
    return {
        stage: {node.name for node in pipeline.nodes}
        for stage, pipeline in pipelines.items()
        if stage in STAGES or stage in UNMANIFESTED
    }


def refuse_unsafe_runs(run_params: Mapping[str, Any], catalog: DataCatalog) -> None:
    """Stop a run whose runner or options could mix artifacts of different parameters.

    Raises:
        ValueError: With what to use instead.
    """
    if isinstance(catalog, SharedMemoryDataCatalog):
        raise ValueError(
            "ParallelRunner is not supported, because its processes do not share which results are saved; use the "
            "default runner or `--runner=ThreadRunner`."
        )
    if run_params.get("only_missing_outputs"):
        raise ValueError(
            "`--only-missing-outputs` is not supported, because it keeps files that other parameters made; leave it "
            "out, or name the stages with `--pipelines`."
        )


def refuse_mixed_stages(running: Collection[str]) -> None:
    """Stop a command that would need two runs of MLflow: it tests an external agent too, or reads finished runs.

    Raises:
        ValueError: With the command to type afterwards.
    """
    own = [stage for stage in TRACKED_STAGES if stage in running and stage != "external_test"]
    if own and "external_test" in running:
        raise ValueError(
            f"`external_test` cannot be in one command with {_listed(own)}, which are about other agents; afterwards "
            "type `kedro run --pipeline external_test`."
        )
    reading = [stage for stage in STORE_READERS if stage in running]
    making = [stage for stage in TRACKED_STAGES if stage in running]
    if reading and making:
        option = f"--pipeline {reading[0]}" if len(reading) == 1 else f"--pipelines {','.join(reading)}"
        raise ValueError(
            f"{_listed(reading)} cannot be in one command with {_listed(making)}, whose MLflow run is not finished "
            f"before the command is; afterwards type `kedro run {option}`."
        )


def _listed(stages: Sequence[str]) -> str:
    return ", ".join(f"`{stage}`" for stage in stages)


def repeated_options(run_params: Mapping[str, Any]) -> list[str]:
    """Return the options of a command line that its remedy must repeat: environment and parameters."""
    options = [f"--env {run_params['env']}"] if run_params.get("env") else []
    values = [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for section, values in (run_params.get("runtime_params") or {}).items()
        for name, value in dotted_values(section, values).items()
    ]
    return [*options, f'--params "{",".join(values)}"'] if values else options
