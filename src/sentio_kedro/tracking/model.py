"""The agents as an MLflow model: code, safetensors and JSON, nothing pickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import requires, version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelStatus
from mlflow.models import ModelSignature, infer_signature
from mlflow.tracking import MlflowClient
from mlflow.types.schema import AnyType, ColSpec, Schema, TensorSpec
from packaging.requirements import Requirement

import sentio_kedro
from sentio_kedro.agent.bundle import AgentBundle, save_agents
from sentio_kedro.config import SignalParameters
from sentio_kedro.market.indicators import own_columns
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bar_checks import OPTIONAL_COLUMNS, VALUE_COLUMNS
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.serving.model import DEFAULTS
from sentio_kedro.serving.newest import newest_signals
from sentio_kedro.tracking.client import optional_tracking

PACKAGE = Path(sentio_kedro.__file__).parent
MODEL_NAME = "agents"
CONTENT_TAG = "sentio.content"
"""Tag of a logged model and of its version: digest of its agents (``agents_content``)."""

SERVING_NEEDS = (
    "exchange_calendars",
    "hmmlearn",
    "mlflow",
    "numpy",
    "pandas",
    "pydantic",
    "safetensors",
    "TA-Lib",
    "torch",
)


def agents_content(agents: Mapping[str, AgentBundle]) -> str:
    """Return the SHA-256 of the files that agents are saved in, names included: the same agents have the same."""
    digest = hashlib.sha256()
    with TemporaryDirectory() as scratch:
        for name, agent in agents.items():
            agent.save(Path(scratch) / name)
        for path in sorted(path for path in Path(scratch).rglob("*") if path.is_file()):
            digest.update(path.relative_to(scratch).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def log_model(agents: Mapping[str, AgentBundle], aligned_bars: AlignedBars, content: str | None = None) -> str | None:
    """Log agents of one fold as a pyfunc model of the active run.

    Args:
        agents: Agents by name.
        aligned_bars: Bars, the newest of which become the input example.
        content: Digest of the agents, a tag by which ``logged_model`` finds the model.

    Returns:
        The model's URI, or None when nothing is tracked.

    Raises:
        ValueError: If the agents cannot decide on the bars.
    """
    if mlflow.active_run() is None:
        return None
    example = newest_bars(agents, aligned_bars)
    signals = newest_signals(list(agents.values()), example, SignalParameters())
    uri: str | None = None
    with optional_tracking(), TemporaryDirectory() as scratch:
        folder = Path(scratch) / MODEL_NAME
        save_agents(agents, folder)
        account = json.dumps({"cash": SignalParameters().equity, "shares": {}})
        info = mlflow.pyfunc.log_model(
            name=MODEL_NAME,
            python_model=str(PACKAGE / "serving" / "model.py"),
            artifacts={"agents": str(folder)},
            code_paths=[str(PACKAGE)],
            signature=model_signature(signals, own_columns(next(iter(agents.values())).spec.features)),
            input_example=(aligned_to_frame(example), {"account": account}),
            pip_requirements=pinned_requirements(),
            tags=None if content is None else {CONTENT_TAG: content},
        )
        uri = str(info.model_uri)
    return uri


def logged_model(content: str) -> str | None:
    """Return the URI of a finished model of the active run's experiment that holds the agents of this digest."""
    run, found = mlflow.active_run(), None
    if run is not None:
        with optional_tracking():
            query = f"tags.`{CONTENT_TAG}` = '{content}'"
            models = MlflowClient().search_logged_models([run.info.experiment_id], query)
            found = next((model.model_uri for model in models if model.status == LoggedModelStatus.READY), None)
    return found


def model_signature(signals: pd.DataFrame, own: Sequence[str] = ()) -> ModelSignature:
    """Return the signature of the model: bars with the agents' ``own`` columns and an account in, ``signals`` out.

    Timestamps may be text (as in JSON) or have a zone, which MLflow's type for datetimes allows neither.
    """
    numbers = [ColSpec("double", name) for name in (*VALUE_COLUMNS, *own)]
    optional = [ColSpec("double", name, required=False) for name in OPTIONAL_COLUMNS if name not in own]
    timestamps = ColSpec(AnyType(), "timestamp")  # type: ignore[no-untyped-call]
    columns: list[ColSpec | TensorSpec] = [timestamps, ColSpec("string", "symbol"), *numbers, *optional]
    answer = infer_signature(signals, signals, params=DEFAULTS)
    return ModelSignature(Schema(columns), answer.outputs, answer.params)


def newest_bars(agents: Mapping[str, AgentBundle], aligned_bars: AlignedBars) -> AlignedBars:
    """Return the newest bars that the agents need for a decision."""
    needed = max(agent.spec.required_bars for agent in agents.values())
    return replace(aligned_bars.rows(slice(-needed, None)), leavers=None)  # as a feed delivers them


def pinned_requirements() -> list[str]:
    """Return the installed versions of what serving imports, without local build labels such as ``+cpu``."""
    declared = {Requirement(text).name.lower() for text in requires("sentio_kedro") or []}
    return [f"{name}=={version(name).partition('+')[0]}" for name in SERVING_NEEDS if name.lower() in declared]
