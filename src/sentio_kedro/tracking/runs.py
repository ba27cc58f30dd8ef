"""Finished MLflow runs, read back for comparison and promotion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking import MlflowClient

from sentio_kedro.evaluation.comparison.compare import ORIGINS, TestedRun
from sentio_kedro.tracking.client import AGENTS_TAG, RETURNS_FILE, without_credentials
from sentio_kedro.tracking.metrics import METRICS_FILE, metric_values
from sentio_kedro.tracking.trials import TRIAL_FILE

PREFIX = "out_of_sample."
MIN_CHARACTERS = 4  # of an id that names a run
MISSING = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
"""MLflow's error code for a missing run, model or version."""

_TESTED = f"{PREFIX}agent.sharpe"


class StoreError(ValueError):
    """MLflow cannot be read, or lacks a run or version."""


@contextmanager
def readable_store(consequence: str = "nothing was changed") -> Iterator[None]:
    """Turn errors of MLflow into one sentence without passwords.

    Args:
        consequence: Clause about the consequence of a failure.

    Raises:
        StoreError: If a call of MLflow fails.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        reason = without_credentials(str(error)).splitlines()[0] if str(error) else type(error).__name__
        uri = without_credentials(mlflow.get_tracking_uri())
        raise StoreError(
            f"MLflow at {uri} failed ({reason}); {consequence}. Check `server.mlflow_tracking_uri` in mlflow.yml."
        ) from error


def find_tested_runs(experiment: str, names: Sequence[str] | None, newest: int) -> list[TestedRun]:
    """Find finished runs that were tested out of sample.

    Args:
        experiment: Name of the experiment.
        names: Runs by the first characters of their id, by name, by the start of their agents' digest or by variant
            (the newest of it); None takes the newest.
        newest: Number of runs at most where none are named.

    Returns:
        Runs in the order of ``names``, or newest first; each set of agents has one.

    Raises:
        StoreError: If the store cannot be read, or a run does not exist.
    """
    with readable_store():
        runs = _finished(experiment)
        if not runs:
            raise StoreError(
                f"MLflow's experiment `{experiment}` holds no finished run that was tested out of sample; `kedro run` "
                "makes one."
            )
        chosen = runs[:newest] if names is None else [_named(name, runs, experiment) for name in names]
        return [tested_run(run) for run in {run.info.run_id: run for run in chosen}.values()]


def _finished(experiment: str) -> list[Run]:
    """Return the finished runs with out-of-sample metrics, newest first."""
    if mlflow.get_experiment_by_name(experiment) is None:
        return []
    query = f"attributes.status = 'FINISHED' and tags.`{AGENTS_TAG}` LIKE '%'"
    order = ["attributes.start_time DESC"]
    runs = mlflow.search_runs(experiment_names=[experiment], filter_string=query, order_by=order, output_format="list")
    return [run for run in runs if isinstance(run, Run) and _TESTED in run.data.metrics]


def _named(name: str, runs: Sequence[Run], experiment: str) -> Run:
    for run in runs:  # newest first
        tags = run.data.tags
        ids = (run.info.run_id, tags[AGENTS_TAG]) if len(name) >= MIN_CHARACTERS else ()
        if name in (run.info.run_name, tags.get("sentio.variant")) or any(one.startswith(name) for one in ids):
            return run
    names = ", ".join(f"{run.info.run_name} ({run.info.run_id[:8]})" for run in runs)
    raise StoreError(
        f"`{name}` names no finished run of MLflow's experiment `{experiment}`; name one by id, name or variant: "
        f"{names}."
    )


def tested_run(run: Run) -> TestedRun:
    """Return the metrics, origin and downloaded returns of ``run``."""
    tags, metrics = run.data.tags, run.data.metrics
    return TestedRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        variant=tags.get("sentio.variant", "unknown"),
        started=pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
        metrics=_read_metrics(run.info.run_id)
        | {name.removeprefix(PREFIX): value for name, value in metrics.items() if name.startswith(PREFIX)},
        origin={key: tags[f"sentio.{key}"] for key in ORIGINS if f"sentio.{key}" in tags},
        returns=read_returns(run.info.run_id),
        periods_per_year=metrics.get(f"{PREFIX}agent.periods_per_year", 1.0),
    )


def _read_metrics(run_id: str) -> dict[str, float]:
    """Download the metrics of a run, those that MLflow has no name for too; none if it stored none."""
    with _downloaded(run_id, METRICS_FILE) as path:
        return {} if path is None else metric_values(json.loads(path.read_text(encoding="utf-8")))


def read_trial_returns(run_id: str) -> pd.DataFrame | None:
    """Download the returns of a run's trial, or None if it has none."""
    with _downloaded(run_id, TRIAL_FILE) as path:
        return None if path is None else pd.read_csv(path, parse_dates=["timestamp"])


def read_returns(run_id: str) -> pd.DataFrame | None:
    """Download the out-of-sample returns of a run, or None if it has none."""
    with _downloaded(run_id, RETURNS_FILE) as path:
        return None if path is None else pd.read_parquet(path)


@contextmanager
def _downloaded(run_id: str, name: str) -> Iterator[Path | None]:
    client = MlflowClient()
    if name not in {file.path for file in client.list_artifacts(run_id)}:
        yield None
        return
    with TemporaryDirectory() as scratch:
        yield Path(client.download_artifacts(run_id, name, scratch))


def get_run(run_id: str) -> Run | None:
    """Return a run, or None where it was deleted."""
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None
