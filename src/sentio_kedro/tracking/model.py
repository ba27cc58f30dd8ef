"""The agents as an MLflow model: code, safetensors and JSON, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import requires, version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types.schema import AnyType, ColSpec, Schema, TensorSpec
from packaging.requirements import Requirement

import sentio_kedro
from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import SignalParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bar_checks import OPTIONAL_COLUMNS, VALUE_COLUMNS
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.serving.model import DEFAULTS
from sentio_kedro.serving.newest import newest_signals
from sentio_kedro.tracking.client import optional_tracking

PACKAGE = Path(sentio_kedro.__file__).parent
MODEL_NAME = "agents"
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


def log_model(agents: Mapping[str, AgentBundle], aligned_bars: AlignedBars) -> str | None:
    """Log agents of one fold as a pyfunc model of the active run.

    Args:
        agents: Agents by name.
        aligned_bars: Bars, the newest of which become the input example.

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
        for name, agent in agents.items():
            agent.save(folder / name)
        account = json.dumps({"cash": SignalParameters().equity, "shares": {}})
        info = mlflow.pyfunc.log_model(
            name=MODEL_NAME,
            python_model=str(PACKAGE / "serving" / "model.py"),
            artifacts={"agents": str(folder)},
            code_paths=[str(PACKAGE)],
            signature=model_signature(signals),
            input_example=(aligned_to_frame(example), {"account": account}),
            pip_requirements=pinned_requirements(),
        )
        uri = str(info.model_uri)
    return uri


def model_signature(signals: pd.DataFrame) -> ModelSignature:
    """Return the signature of the model: bars, an account as parameter, and ``signals`` as an example of the output.

    Timestamps may be text (as in JSON) or have a zone, which MLflow's type for datetimes allows neither.
    """
    numbers = [ColSpec("double", name) for name in VALUE_COLUMNS]
    optional = [ColSpec("double", name, required=False) for name in OPTIONAL_COLUMNS]
    timestamps = ColSpec(AnyType(), "timestamp")  # type: ignore[no-untyped-call]
    columns: list[ColSpec | TensorSpec] = [timestamps, ColSpec("string", "symbol"), *numbers, *optional]
    answer = infer_signature(signals, signals, params=DEFAULTS)
    return ModelSignature(Schema(columns), answer.outputs, answer.params)


def newest_bars(agents: Mapping[str, AgentBundle], aligned_bars: AlignedBars) -> AlignedBars:
    """Return the newest bars that the agents need for a decision."""
    needed = max(agent.spec.required_bars for agent in agents.values())
    return aligned_bars.rows(slice(-needed, None))


def pinned_requirements() -> list[str]:
    """Return the installed versions of what serving imports, without local build labels such as ``+cpu``."""
    declared = {Requirement(text).name.lower() for text in requires("sentio_kedro") or []}
    return [f"{name}=={version(name).partition('+')[0]}" for name in SERVING_NEEDS if name.lower() in declared]
