"""Refusals of options and of pipelines that one command cannot hold."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kedro.io import DataCatalog, SharedMemoryDataCatalog

from sentio_kedro.manifests import dotted_values

STORE_READERS = ("comparison", "promotion", "rollback", "live")
"""Pipelines that read finished runs from MLflow or log to one of their own; of earlier stages they need any result."""

BAR_WRITERS = ("download",)
"""Pipelines that fetch bars: they read and write none of the artifacts."""

TRACKED_STAGES = ("training", "backtest", "reporting", "search", "lockbox", "external_test")
"""Stages that log to MLflow."""


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
    if set(BAR_WRITERS) & set(running) and len(running) > 1:
        others = ",".join(stage for stage in running if stage not in BAR_WRITERS)
        raise ValueError(
            "`download` cannot be in one command with other pipelines, which are checked against the bars before it "
            f"has fetched any; type `kedro run --pipeline download`, then `kedro run --pipelines {others}`."
        )
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
