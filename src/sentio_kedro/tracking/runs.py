"""Finished runs as MLflow remembers them, read back for comparison and promotion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import mlflow
import pandas as pd
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking import MlflowClient

from sentio_kedro.evaluation.comparison.compare import ORIGINS, TestedRun
from sentio_kedro.tracking.client import AGENTS_TAG, RETURNS_FILE, without_credentials
from sentio_kedro.tracking.trials import TRIAL_FILE

PREFIX = "out_of_sample."
MIN_CHARACTERS = 4  # of an id that names a run
MISSING = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
"""How MLflow calls the error that something is not there."""

_TESTED = f"{PREFIX}agent.sharpe"


class StoreError(click.ClickException, ValueError):
    """MLflow cannot be read, or does not hold what is needed. The command line shows it without a traceback."""


@contextmanager
def readable_store(consequence: str = "nothing was changed") -> Iterator[None]:
    """Say in one sentence that MLflow cannot be reached; passwords are blotted out.

    Args:
        consequence: What follows from a failure, a clause.

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


def find_tested_runs(experiment: str, wanted: Sequence[str] | None, newest: int) -> list[TestedRun]:
    """Find finished runs that were judged out of sample.

    Args:
        experiment: Name of the experiment.
        wanted: Runs by the first characters of their id, by name, by the start of their agents' digest or by variant
            (the newest of it); None takes the newest.
        newest: How many at most where none are named.

    Returns:
        Runs in the order asked for, or newest first; each set of agents has one.

    Raises:
        StoreError: If the store cannot be read, or a run is not there.
    """
    with readable_store():
        known = _finished(MlflowClient(), experiment)
        if not known:
            raise StoreError(
                f"MLflow's experiment `{experiment}` holds no finished run that was judged out of sample; `kedro run` "
                "makes one."
            )
        chosen = known[:newest] if wanted is None else [_named(name, known, experiment) for name in wanted]
        return [tested_run(run) for run in {run.info.run_id: run for run in chosen}.values()]


def _finished(client: MlflowClient, experiment: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    query = f"attributes.status = 'FINISHED' and tags.`{AGENTS_TAG}` LIKE '%'"
    runs, token = [], None
    while True:
        page = client.search_runs(
            [found.experiment_id], query, order_by=["attributes.start_time DESC"], page_token=token
        )
        runs += [run for run in page if _TESTED in run.data.metrics]
        token = page.token
        if not token:
            return runs


def _named(name: str, known: Sequence[Run], experiment: str) -> Run:
    for run in known:  # newest first
        tags = run.data.tags
        ids = (run.info.run_id, tags[AGENTS_TAG]) if len(name) >= MIN_CHARACTERS else ()
        if name in (run.info.run_name, tags.get("sentio.variant")) or any(one.startswith(name) for one in ids):
            return run
    names = ", ".join(f"{run.info.run_name} ({run.info.run_id[:8]})" for run in known)
    raise StoreError(
        f"`{name}` names no finished run of MLflow's experiment `{experiment}`; name one by id, name or variant: "
        f"{names}."
    )


def tested_run(run: Run) -> TestedRun:
    """Return what a comparison needs to know of ``run``; its returns are downloaded."""
    tags, metrics = run.data.tags, run.data.metrics
    return TestedRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        variant=tags.get("sentio.variant", "unknown"),
        started=pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
        metrics={name.removeprefix(PREFIX): value for name, value in metrics.items() if name.startswith(PREFIX)},
        origin={key: tags[f"sentio.{key}"] for key in ORIGINS if f"sentio.{key}" in tags},
        returns=read_returns(run.info.run_id),
        periods_per_year=metrics.get(f"{PREFIX}agent.periods_per_year", 1.0),
    )


def read_trial_returns(run_id: str) -> pd.DataFrame | None:
    """Download the returns that a run is judged by as a trial, or None if it kept none."""
    client = MlflowClient()
    if TRIAL_FILE not in {file.path for file in client.list_artifacts(run_id)}:
        return None
    with TemporaryDirectory() as scratch:
        found = Path(client.download_artifacts(run_id, TRIAL_FILE, scratch))
        return pd.read_csv(found, parse_dates=["timestamp"])


def get_run(run_id: str) -> Run | None:
    """Return a run, or None where it was deleted."""
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def read_returns(run_id: str) -> pd.DataFrame | None:
    """Download the returns that judged a run, or None if it kept none."""
    client = MlflowClient()
    if RETURNS_FILE not in {file.path for file in client.list_artifacts(run_id)}:
        return None
    with TemporaryDirectory() as scratch:
        return pd.read_parquet(Path(client.download_artifacts(run_id, RETURNS_FILE, scratch)))
