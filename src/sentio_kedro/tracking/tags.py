"""Tags of a run's origin and test rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.utils.git_utils import get_git_commit

import sentio_kedro
from sentio_kedro.evaluation.comparison.returns import rows_digest
from sentio_kedro.manifests import code_hash

COMMIT_TAG = "mlflow.source.git.commit"
EXECUTION = (
    *("trading.initial_cash", "trading.calendar", "ingestion.sessions_per_year"),
    *("trading.costs.", "trading.carry.", "trading.margin.", "trading.orders."),
)
"""Names of parameters, or their beginnings, of the filling of orders and the costs of accounts."""

VERSION_TAGS = ("sentio.agents", "sentio.variant")
"""Tags of a run that its registered version has too; the page of the version links to the run and its other tags."""

SHORT = 12  # characters of a digest that only tells things apart

EXTERNAL = "external"
"""Variant of a run that tests an agent trained elsewhere."""


def variant_of(parameters: Mapping[str, Any]) -> str:
    """Return the learner's name: ``training.variant``, with ``network.variant`` before it where they differ."""
    training, network = parameters.get("training.variant", "unknown"), parameters.get("network.variant")
    return str(training) if network in (None, training) else f"{network}/{training}"


def execution_digest(parameters: Mapping[str, Any]) -> str:
    """Digest of the parameters of execution and costs; runs with different ones cannot be compared."""
    shaping = {name: value for name, value in parameters.items() if name.startswith(EXECUTION)}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def describe_origin(
    bars_hash: str, parameters: Mapping[str, Any], project: Path, *, external: bool = False
) -> dict[str, str]:
    """Return the tags of a run's origin.

    Args:
        bars_hash: Hash of the raw bars.
        parameters: Flattened parameters of all sections.
        project: The project's folder; its commit is left out where there is no git.
        external: Whether the agent was trained elsewhere; it pays what it was trained with.
    """
    tags = {
        "sentio.variant": EXTERNAL if external else variant_of(parameters),
        "sentio.bars": bars_hash,
        "sentio.code": code_hash(Path(sentio_kedro.__file__).parent),
    }
    if not external:
        tags["sentio.execution"] = execution_digest(parameters)
    named = {
        "sentio.universe_bias": "ingestion.universe",
        "sentio.scheme": "cross_validation.scheme",
        "sentio.seeds": "training.seeds",
    }
    tags |= {tag: str(parameters[name]) for tag, name in named.items() if name in parameters}
    commit = get_git_commit(str(project))
    return tags if commit is None else tags | {COMMIT_TAG: commit}


def describe_test_rows(returns: pd.DataFrame) -> dict[str, str]:
    """Return the tags of a run's test rows; see ``out_of_sample_returns``."""
    first, last = returns["timestamp"].min(), returns["timestamp"].max()
    return {
        "sentio.test_first": first.isoformat(),
        "sentio.test_last": last.isoformat(),
        "sentio.test_bars": str(len(returns)),
        "sentio.test_rows": rows_digest(returns),
    }
