"""Logging of nodes to MLflow. Without an active run nothing is logged; a failing server never stops a run."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ParamSpec, cast

import mlflow
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import psutil
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric, Run, RunStatus, RunTag
from mlflow.tracking import MlflowClient

AGENTS_TAG = "sentio.agents"
"""Tag of a parent run: digest of its agents."""

RETURNS_FILE = "returns.parquet"
"""Artifact of a parent run: out-of-sample returns of every account."""

_FINISHED_TAG, _ATTEMPT_TAG = "sentio.finished", "sentio.last_attempt"
"""Tag of a run that finished once, and tag with the end of the last attempt."""

_PROCESS_TAG, _STARTED_TAG, _HOST_TAG = "sentio.process", "sentio.process_started", "sentio.host"
_METRICS_PER_CALL = 1000  # MLflow takes no more at once
_RUNNING = RunStatus.to_string(RunStatus.RUNNING)

_logger = logging.getLogger(__name__)

P = ParamSpec("P")


@contextmanager
def optional_tracking() -> Iterator[None]:
    """Turn an error of MLflow into one warning; the rest of the run goes on untracked."""
    try:
        yield
    except Exception as error:
        reason = without_credentials(str(error)).splitlines()[0] if str(error) else type(error).__name__
        uri = without_credentials(mlflow.get_tracking_uri())
        _logger.warning("MLflow at %s failed (%s); this run goes on untracked.", uri, reason)
        while mlflow.active_run():
            with suppress(Exception):
                mlflow.end_run(RunStatus.to_string(RunStatus.FAILED))


def use_store(uri: str) -> None:
    """Let this process read the store at ``uri``, outside of a run of Kedro."""
    mlflow.set_tracking_uri(uri)


def without_credentials(text: str) -> str:
    """Return ``text`` with the user and password of every address replaced by ``***``."""
    return re.sub(r"://[^/\s@]+@", "://***@", text)


def process_tags() -> dict[str, str]:
    """Return tags that identify the process of a run."""
    started = psutil.Process().create_time()
    return {_PROCESS_TAG: str(os.getpid()), _STARTED_TAG: f"{started:.2f}", _HOST_TAG: socket.gethostname()}


def close_killed_runs(client: MlflowClient, experiment_id: str) -> list[str]:
    """Close open runs of this machine whose process is gone as killed, and return their ids; see ``close_run``."""
    query = f"attributes.status = '{_RUNNING}' and tags.`{_HOST_TAG}` = '{socket.gethostname()}'"
    closed = [run.info.run_id for run in _search(client, experiment_id, query) if not _is_alive(run.data.tags)]
    for run_id in closed:
        close_run(client, run_id, RunStatus.KILLED)
        _logger.warning("MLflow run %s was left open by a process that is gone; closed it as killed.", run_id)
    close_pending_models(client, experiment_id)
    return closed


def close_pending_models(client: MlflowClient, experiment_id: str) -> list[str]:
    """Mark models that no open run is writing as failed, and return their ids."""
    models: list[LoggedModel] = []
    token: str | None = ""
    while token is not None:
        page = client.search_logged_models([experiment_id], page_token=token or None)
        models, token = [*models, *page], page.token or None
    pending = {model.model_id: model.source_run_id for model in models if model.status == LoggedModelStatus.PENDING}
    running = {run.info.run_id for run in _search(client, experiment_id, f"attributes.status = '{_RUNNING}'")}
    closed = [model_id for model_id, run_id in pending.items() if run_id not in running]
    for model_id in closed:
        client.finalize_logged_model(model_id, LoggedModelStatus.FAILED)
        _logger.warning("MLflow model %s was left unfinished by a run that is over; closed it as failed.", model_id)
    return closed


def close_run(client: MlflowClient, run_id: str, status: int) -> None:
    """End an attempt at a run; one that finished before stays finished, with the end of this attempt as a tag.

    Args:
        client: Client of the store.
        run_id: The run.
        status: End of the attempt, one of ``RunStatus``.
    """
    finished = status == RunStatus.FINISHED or _FINISHED_TAG in client.get_run(run_id).data.tags
    tags = [RunTag(_ATTEMPT_TAG, RunStatus.to_string(status)), *([RunTag(_FINISHED_TAG, "true")] if finished else [])]
    client.log_batch(run_id, tags=tags)
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED if finished else status))


def _is_alive(tags: Mapping[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags.get(_PROCESS_TAG, "-1")))
        return f"{process.create_time():.2f}" == tags.get(_STARTED_TAG)
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:
        return True


def find_run_by_tags(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> Run | None:
    """Return the newest run that has all ``tags``, or None."""
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    runs = _search(client, experiment_id, query)
    return runs[0] if runs else None


def _search(client: MlflowClient, experiment_id: str, query: str) -> list[Run]:
    return list(client.search_runs([experiment_id], query, order_by=["attributes.start_time DESC"]))


def is_tracked() -> bool:
    """Return whether a run is active."""
    return mlflow.active_run() is not None


@contextmanager
def nested_run(name: str, tags: Mapping[str, str]) -> Iterator[str | None]:
    """Log the body to a nested run of the active one.

    A nested run of the same parent with the same tags is continued. It ends as the body does: finished, failed, killed.

    Args:
        name: Name of the run, such as ``fold 0 seed 1``.
        tags: Tags that identify it among its siblings, such as ``{"fold": "0", "seed": "1"}``.

    Yields:
        Id of the nested run, or None when nothing is tracked.
    """
    run_id: str | None = None
    with optional_tracking():
        parent = mlflow.active_run()
        if parent is not None:
            siblings = {"mlflow.parentRunId": parent.info.run_id}
            run_id = _continue_or_start(parent.info.experiment_id, name, tags, siblings)
    with _ending_as_the_body(run_id):
        yield run_id


@contextmanager
def own_run(experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[str | None]:
    """Log the body to a run that belongs to no set of agents; as ``nested_run`` otherwise."""
    run_id: str | None = None
    with optional_tracking():
        run_id = _continue_or_start(mlflow.set_experiment(experiment).experiment_id, name, tags)
    with _ending_as_the_body(run_id):
        yield run_id


@contextmanager
def _ending_as_the_body(run_id: str | None) -> Iterator[None]:
    """Close the active run ``run_id`` as finished, failed or killed."""
    status = RunStatus.FINISHED
    try:
        yield
    except Exception:
        status = RunStatus.FAILED
        raise
    except BaseException:
        status = RunStatus.KILLED
        raise
    finally:
        with optional_tracking():
            active = mlflow.active_run()
            if active is not None and active.info.run_id == run_id:
                mlflow.end_run(RunStatus.to_string(status))
                close_run(MlflowClient(), active.info.run_id, status)


def _continue_or_start(
    experiment_id: str, name: str, tags: Mapping[str, str], parent: Mapping[str, str] | None = None
) -> str:
    run = find_run_by_tags(MlflowClient(), experiment_id, {**(parent or {}), **tags})
    started = mlflow.start_run(
        run_id=None if run is None else run.info.run_id,
        experiment_id=experiment_id,
        run_name=name if run is None else None,
        nested=parent is not None,
        tags={**tags, **process_tags()},
        log_system_metrics=False,
    )
    return str(started.info.run_id)


def _when_tracked(log: Callable[P, None]) -> Callable[P, None]:
    """Return a function that calls ``log`` if a run is active, and whose errors do not stop the run."""

    @wraps(log)
    def optional_log(*args: P.args, **kwargs: P.kwargs) -> None:
        if mlflow.active_run() is not None:
            with optional_tracking():
                log(*args, **kwargs)

    return optional_log


@_when_tracked
def log_curves(curves: pd.DataFrame, step: str) -> None:
    """Log each number column of ``curves`` as a metric over ``step``, without values that are not finite.

    Args:
        curves: One row per step.
        step: Column of integers that orders the rows.
    """
    numbers = curves.drop(columns=[step]).select_dtypes("number")
    _log_values(
        (str(column), float(value), int(row))
        for column in numbers
        for row, value in zip(curves[step], numbers[column], strict=True)
    )


@_when_tracked
def log_metrics(metrics: Mapping[str, float | int | None], prefix: str = "", model_id: str | None = None) -> None:
    """Log single numbers of the active run.

    Args:
        metrics: Numbers by name; None and values that are not finite are left out.
        prefix: Prefix of every name, such as ``out_of_sample.``.
        model_id: Logged model that they are of, too; null is none.
    """
    values = ((f"{prefix}{name}", float(value), 0) for name, value in metrics.items() if isinstance(value, int | float))
    _log_values(values, model_id)


def _log_values(values: Iterable[tuple[str, float, int]], model_id: str | None = None) -> None:
    now = int(time.time() * 1000)  # milliseconds
    metrics = [Metric(name, value, now, step, model_id=model_id) for name, value, step in values if np.isfinite(value)]
    run_id = cast("Run", mlflow.active_run()).info.run_id
    for start in range(0, len(metrics), _METRICS_PER_CALL):
        MlflowClient().log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_CALL])


@_when_tracked
def log_tags(tags: Mapping[str, str]) -> None:
    """Set tags of the active run."""
    mlflow.set_tags(dict(tags))


@_when_tracked
def log_parameters(values: Mapping[str, object]) -> None:
    """Log parameters of the active run."""
    mlflow.log_params(dict(values))


@_when_tracked
def log_figures(figures: Mapping[str, go.Figure], folder: str = "figures") -> None:
    """Log Plotly figures of the active run, one page each."""
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"{folder}/{name}.html")


@_when_tracked
def log_text(text: str, name: str) -> None:
    """Log ``text`` as the artifact ``name`` of the active run, such as ``report.html``."""
    mlflow.log_text(text, name)


@_when_tracked
def log_frame(frame: pd.DataFrame, name: str) -> None:
    """Log a table as the artifact ``name`` of the active run, such as ``returns.parquet`` or ``comparison.csv``."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
        mlflow.log_artifact(str(path))


def run_tags(prefix: str = "sentio.") -> dict[str, str]:
    """Return the tags of the active run that begin with ``prefix``, without those of its process; none if untracked."""
    run, process = mlflow.active_run(), (_PROCESS_TAG, _STARTED_TAG, _HOST_TAG, _FINISHED_TAG, _ATTEMPT_TAG)
    sentio_tags: dict[str, str] = {}
    if run is not None:
        with optional_tracking():
            tags = MlflowClient().get_run(run.info.run_id).data.tags
            sentio_tags = {name: tag for name, tag in tags.items() if name.startswith(prefix) and name not in process}
    return sentio_tags
