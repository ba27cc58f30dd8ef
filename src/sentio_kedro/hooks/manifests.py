"""What happens around a run: artifacts are checked, manifests written, MLflow runs continued."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, SharedMemoryDataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

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
from sentio_kedro.market.bars import bars_hash

if TYPE_CHECKING:  # the datasets need torch, which a run may not
    from sentio_kedro.datasets.checkpoints import CheckpointStoreDataset
    from sentio_kedro.datasets.files import JSONDataset

OF_TRACKED_RUNS = ("comparison", "promotion", "rollback")
"""Pipelines that read what MLflow holds; of earlier stages they need none, or any result."""

TRACKED_STAGES = ("training", "backtest", "reporting", "search", "lockbox", "external_test")
"""Stages that log to MLflow; runs without any of them leave no trace there."""

UNMANIFESTED = ("lockbox", "search", "signals", "external_test", *OF_TRACKED_RUNS)
"""Pipelines that are checked before they run but leave no manifest: nothing is built on what they make."""


@dataclass
class RunContext:
    """What a run is about: its catalog, its parameters and the hash of its bars, read once and only when asked for.

    Attributes:
        catalog: The run's catalog.
        parameters: Flattened parameters of all sections.
    """

    catalog: DataCatalog
    parameters: Mapping[str, Any]
    _hash: str | None = None
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, catalog: DataCatalog) -> RunContext:
        """Read the parameters of ``catalog``."""
        return cls(catalog, flatten_parameters(catalog["parameters"].load()))

    @property
    def bars_hash(self) -> str:
        """Hash of the raw bars. The dataset is read directly: what it holds is checked when ingestion loads it."""
        with self._lock:
            if self._hash is None:
                try:
                    self._hash = bars_hash(self.catalog["bars"].load())
                except (KeyError, TypeError, ValueError):
                    self.catalog.load("bars")  # says in full what is wrong with the bars
                    raise
            return self._hash

    def expected(self, stage: str) -> Manifest:
        """Return the manifest that ``stage`` has in this run."""
        return expected_manifest(stage, self.bars_hash, self.parameters)

    def found(self, stage: str) -> dict[str, Any] | None:
        """Return the manifest that an earlier run left, or None."""
        dataset = self.manifest(stage)
        return dict(dataset.load()) if dataset.exists() else None

    def manifest(self, stage: str) -> JSONDataset:
        """Return the dataset of a stage's manifest."""
        return cast("JSONDataset", self.catalog[f"{stage}_manifest"])

    @property
    def checkpoints(self) -> CheckpointStoreDataset:
        """The dataset of the training's checkpoints."""
        return cast("CheckpointStoreDataset", self.catalog["checkpoints"])


class StageManifests:
    """Checks before a run that earlier stages fit it, and leaves each stage's manifest as the last thing it writes.

    Attributes:
        facts: What the present or last run is about, None before the first.
    """

    def __init__(self) -> None:
        self.facts: RunContext | None = None
        self._stage_of: dict[str, str] = {}
        self._unstarted: set[str] = set()
        self._unsaved: dict[str, set[str]] = {}
        self._lock = Lock()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Stop before any work if the run cannot be done safely.

        Args:
            run_params: Kedro's record of the command line.
            pipeline: What will run.
            catalog: The run's catalog.

        Raises:
            ValueError: If the runner or an option cannot keep artifacts safe.
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
        whole = {stage for stage, names in running.items() if names == stages[stage]}
        facts = RunContext.of(catalog)
        partial = {stage: facts.found(stage) for stage in running.keys() - whole - set(UNMANIFESTED)}
        self._check(facts, run_params, running.keys(), whole)
        self.facts = facts
        rewritten = whole | {
            stage for stage, found in partial.items() if explain_difference(found, facts.expected(stage)) is None
        }
        stage_names = [stage for stage in STAGES if stage in running]
        self._stage_of = {name: stage for stage in stage_names for name in running[stage]}
        self._unstarted = set(stage_names)
        self._unsaved = {
            stage: {key for name in running[stage] for key in results(chosen[name])}
            for stage in stage_names
            if stage in rewritten
        }

    @staticmethod
    def _check(facts: RunContext, run_params: dict[str, Any], running: Any, whole: set[str]) -> None:
        needed = {earlier for stage in running for earlier in stages_read(stage) if earlier not in whole}
        present = {"training"} - whole if "signals" in running else set()
        present |= {"ingestion", "cross_validation", "training"} - whole if "promotion" in running else set()
        require_manifests(
            {stage: facts.found(stage) for stage in needed | present},
            {stage: facts.expected(stage) for stage in needed},
            present=present,
            options=repeated_options(run_params),
        )

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Delete a stage's manifest before it changes anything; training deletes those of what judged its agents.

        Args:
            node: The node that is about to run.
        """
        stage = self._stage_of.get(node.name)
        with self._lock:
            if self.facts is None or stage not in self._unstarted:
                return
            self._unstarted.discard(stage)
            self.facts.manifest(stage).remove()
            if stage == "training":  # the same parameters need not make the same agents
                for later in STAGES[STAGES.index(stage) + 1 :]:
                    if stage in (self.facts.found(later) or {}).get("upstream", {}):
                        self.facts.manifest(later).remove()

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str) -> None:
        """Tie the checkpoints to what is being trained before a node gets to see them.

        Args:
            dataset_name: The dataset that is about to be loaded.
        """
        if dataset_name == "checkpoints" and self.facts is not None:
            self.facts.checkpoints.bind(tracked_identity(self.facts.expected("training").digest))

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Take note of a node that saves nothing.

        Args:
            node: The node that ran.
        """
        if not node.outputs:
            self._mark(node, node.name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Write the stage's manifest once all its results are saved.

        Args:
            dataset_name: The dataset that was saved.
            node: The node that made it.
        """
        self._mark(node, dataset_name)

    def _mark(self, node: Node, result: str) -> None:
        stage = self._stage_of.get(node.name, "")
        with self._lock:
            unsaved = self._unsaved.get(stage)
            if unsaved is None or self.facts is None:
                return
            unsaved.discard(result)
            if unsaved:
                return
            del self._unsaved[stage]
            manifest = self.facts.expected(stage)
            record = {**manifest.to_dict(), "digest": manifest.digest}
            self.facts.manifest(stage).save(record)
            if stage == "training":
                self.facts.checkpoints.remove()


@contextmanager
def readable_refusals() -> Iterator[None]:
    """On the command line, show what is wrong without a traceback."""
    try:
        yield
    except ValueError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from error


def results(node: Node) -> set[str]:
    """Return what tells that ``node`` is done: its datasets, or its own name if it saves none."""
    return set(node.outputs) or {node.name}


def stages_read(stage: str) -> tuple[str, ...]:
    """Return the stages whose artifacts ``stage`` reads and that must fit; those of ``UNMANIFESTED`` count as well.

    Args:
        stage: Name of a pipeline.
    """
    if stage == "signals" or stage in OF_TRACKED_RUNS:
        return ()  # agents decide on newer bars than they were trained on
    trained = upstream_stages("training")
    others = {"search": trained, "lockbox": (*trained, "training")}
    return others[stage] if stage in others else upstream_stages(stage)


def registered_stages() -> dict[str, set[str]]:
    """Return the names of each registered stage's nodes; those of ``UNMANIFESTED`` count as well."""
    from sentio_kedro.pipeline_registry import register_pipelines  # noqa: PLC0415 - settings load before pipelines

    return {
        stage: {node.name for node in pipeline.nodes}
        for stage, pipeline in register_pipelines().items()
        if stage in STAGES or stage in UNMANIFESTED
    }


def refuse_unsafe_runs(run_params: Mapping[str, Any], catalog: DataCatalog) -> None:
    """Stop a run whose runner or options would break the promise that artifacts fit together.

    Args:
        run_params: Kedro's record of the command line.
        catalog: The run's catalog.

    Raises:
        ValueError: With one sentence that says what to use instead.
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

    Args:
        running: Names of the pipelines of which a node will run.

    Raises:
        ValueError: With one sentence that says which command to type afterwards.
    """
    own = [stage for stage in TRACKED_STAGES[:-1] if stage in running]
    if own and "external_test" in running:
        raise ValueError(
            f"`external_test` cannot be in one command with {_listed(own)}, which are about other agents; afterwards "
            "type `kedro run --pipeline external_test`."
        )
    reading = [stage for stage in OF_TRACKED_RUNS if stage in running]
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
    given = run_params.get("runtime_params") or {}
    if given:
        options.append(f'--params "{",".join(_assignments("", given))}"')
    return options


def _assignments(prefix: str, values: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _assignments(f"{prefix}{key}.", value)
        else:
            found.append(f"{prefix}{key}={value if isinstance(value, str) else json.dumps(value)}")
    return found
