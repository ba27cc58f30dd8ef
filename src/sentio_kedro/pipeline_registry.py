"""The pipelines of the project, by the names that ``kedro run --pipeline`` takes."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from sentio_kedro.manifests import STAGES
from sentio_kedro.pipelines import (
    backtest,
    cross_validation,
    features,
    ingestion,
    regimes,
    reporting,
    signals,
    training,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline; ``__default__`` is all stages in order, without ``signals``."""
    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "features": features.create_pipeline(),
        "cross_validation": cross_validation.create_pipeline(),
        "regimes": regimes.create_pipeline(),
        "training": training.create_pipeline(),
        "backtest": backtest.create_pipeline(),
        "reporting": reporting.create_pipeline(),
        "signals": signals.create_pipeline(),
    }
    pipelines["__default__"] = sum((pipelines[name] for name in STAGES), Pipeline([]))
    return pipelines
