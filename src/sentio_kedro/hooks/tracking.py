"""One MLflow run per set of agents, continued by every command that trains, tests or reports them."""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, cast

import mlflow
from filelock import FileLock
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from mlflow.entities import Param, RunStatus, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from sentio_kedro.hooks.manifests import StageManifests, registered_stages
from sentio_kedro.hooks.options import STORE_READERS, TRACKED_STAGES
from sentio_kedro.hooks.run_context import RunContext
from sentio_kedro.manifests import expected_manifest, tracked_identity
from sentio_kedro.tracking.client import (
    AGENTS_TAG,
    close_killed_runs,
    close_run,
    find_run_by_tags,
    optional_tracking,
    process_tags,
)
from sentio_kedro.tracking.tags import EXTERNAL, describe_origin, variant_of

_SQLITE = "sqlite:///"
_PARAMETERS_PER_CALL = 100  # MLflow takes no more at once
_STORE_SECONDS = 60.0  # until another run has made the tables of a new store
_logger = logging.getLogger(__name__)


class MlflowTracking(MlflowHook):
    """kedro-mlflow's hook, with one parent run per set of agents, and optional: a server that fails stops nothing."""

    run_id: str | None
    _already_active_mlflow: bool

    def __init__(self, manifests: StageManifests) -> None:
        super().__init__()
        self._is_mlflow_enabled = False
        self._manifests = manifests
        self._context: KedroContext | None = None
        self._process = 0

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read ``mlflow.yml`` into ``context.mlflow``, for ``kedro mlflow ui``; no store is opened yet."""
        # Without these a server that is down would hold up the run for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        settings = context.config_loader["mlflow"]
        server = settings.setdefault("server", {})
        server["mlflow_tracking_uri"] = _in_project(context.project_path, server.get("mlflow_tracking_uri"))
        context.config_loader["mlflow"] = settings
        context.__setattr__("mlflow", KedroMlflowConfig.model_validate(settings))
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Continue the run of these agents, or begin it."""
        self.run_id, self._is_mlflow_enabled = None, False
        chosen = {node.name for node in pipeline.nodes}
        stages = registered_stages(pipeline)
        if any(stages.get(stage, set()) & chosen for stage in STORE_READERS) and self._context is not None:
            with optional_tracking(), self._one_at_a_time():
                super().after_context_created(self._context)  # they read the store and open runs themselves, if any
        if not any(stages.get(stage, set()) & chosen for stage in TRACKED_STAGES):
            return
        run_context = self._manifests.run_context
        if run_context is None or self._context is None:
            return
        external = bool(stages.get("external_test", set()) & chosen)
        tested = "external_test" if external else "training"
        identity = tracked_identity(expected_manifest(tested, run_context.bars_hash, run_context.parameters).digest)
        opened = None
        with optional_tracking(), self._one_at_a_time():
            super().after_context_created(self._context)
            self._find_run(identity, EXTERNAL if external else variant_of(run_context.parameters))
            super().before_pipeline_run(run_params, pipeline, catalog)
            if mlflow.active_run() is not None:  # none if mlflow.yml switches these pipelines off
                self._describe_run(identity, run_context, external)
            opened = self.run_id
        self.run_id = opened

    def _one_at_a_time(self) -> AbstractContextManager[Any]:
        """Serialise the first use of a SQLite store, whose tables two processes cannot make at once."""
        uri = str(cast("Any", self._context).mlflow.server.mlflow_tracking_uri or "")
        path = Path(f"{uri.removeprefix(_SQLITE)}.lock")
        fresh = uri.startswith(_SQLITE) and path.parent.is_dir()
        return FileLock(path.with_name(f".{path.name}"), timeout=_STORE_SECONDS) if fresh else nullcontext()

    def _find_run(self, identity: str, variant: str) -> None:
        tracking = self.mlflow_config.tracking
        tracking.run.name = f"{variant} {identity[:8]}"
        if self._already_active_mlflow:
            return
        experiment_id = tracking.experiment._experiment.experiment_id
        client = self.mlflow_config.server._mlflow_client
        close_killed_runs(client, experiment_id)
        run = find_run_by_tags(client, experiment_id, {AGENTS_TAG: identity})
        tracking.run.id = run.info.run_id if run else None

    def _describe_run(self, identity: str, run_context: RunContext, external: bool) -> None:
        project = Path(cast("KedroContext", self._context).project_path)
        origin = describe_origin(run_context.bars_hash, run_context.parameters, project, external=external)
        mlflow.set_tags({AGENTS_TAG: identity, **origin, **process_tags()})
        for name in ("project_path", "runner"):  # of kedro-mlflow: a path of this machine, an address in its memory
            if name in MlflowClient().get_run(str(self.run_id)).data.tags:
                mlflow.delete_tag(name)
        self._log_parameters(run_context.parameters)
        atexit.unregister(self._close_killed)
        atexit.register(self._close_killed)
        self._process = os.getpid()
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)

    def _log_parameters(self, parameters: Mapping[str, Any]) -> None:
        client = self.mlflow_config.server._mlflow_client
        logged = client.get_run(self.run_id).data.params
        now = {name: _text(value)[:MAX_PARAM_VAL_LENGTH] for name, value in parameters.items()}
        new = [Param(name, value) for name, value in now.items() if name not in logged]
        changed = {name: value for name, value in now.items() if logged.get(name, value) != value}
        # MLflow parameters are immutable: a changed value becomes a tag.
        tags = [RunTag(f"sentio.now.{name}", value) for name, value in changed.items()]
        if changed:
            _logger.warning("MLflow keeps the first value of parameters that changed since: %s.", ", ".join(changed))
        for start in range(0, max(len(new), 1), _PARAMETERS_PER_CALL):
            client.log_batch(self.run_id, params=new[start : start + _PARAMETERS_PER_CALL], tags=tags)

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool) -> None:
        """Make the parent run the active one in the thread that runs ``node``."""
        if self.run_id is not None and mlflow.active_run() is None:
            with optional_tracking():
                mlflow.start_run(run_id=self.run_id)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Close the run as finished."""
        self._close(RunStatus.FINISHED)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Close the run as failed."""
        self._close(RunStatus.FAILED)

    def _close_killed(self) -> None:
        # An interrupt from the keyboard reaches no Kedro hook.
        self._close(RunStatus.KILLED)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        # Threads may work on for minutes: the run is closed here, and the process ends as it would without us.
        if os.getpid() == self._process:
            self._close(RunStatus.KILLED)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _close(self, status: int) -> None:
        run_id, self.run_id, self._is_mlflow_enabled = self.run_id, None, False
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == self._terminate
        ):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if run_id is None or self._already_active_mlflow:
            return
        with optional_tracking():
            client = self.mlflow_config.server._mlflow_client
            while active := mlflow.active_run():
                mlflow.end_run(RunStatus.to_string(status))
                close_run(client, active.info.run_id, status)
            close_run(client, run_id, status)


def _in_project(project: Path, uri: str | None) -> str | None:
    """Return ``uri`` with the path of a SQLite file relative to the project's folder."""
    if uri is None or not uri.startswith(_SQLITE):
        return uri
    return f"{_SQLITE}{(Path(project) / uri.removeprefix(_SQLITE)).as_posix()}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
