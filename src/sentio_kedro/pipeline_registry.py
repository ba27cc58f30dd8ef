"""The pipelines of the project, by the names that ``kedro run --pipeline`` takes."""

from __future__ import annotations

from kedro.pipeline import Pipeline, pipeline

from sentio_kedro.manifests import STAGES
from sentio_kedro.pipelines import (
    backtest,
    comparison,
    cross_validation,
    features,
    ingestion,
    lockbox,
    promotion,
    regimes,
    reporting,
    search,
    signals,
    training,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline; ``__default__`` is all stages in order, and nothing that stands beside them."""
    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "features": features.create_pipeline(),
        "cross_validation": cross_validation.create_pipeline(),
        "regimes": regimes.create_pipeline(),
        "training": training.create_pipeline(),
        "backtest": backtest.create_pipeline(),
        "reporting": reporting.create_pipeline(),
        "signals": signals.create_pipeline(),
        "search": prepared_search(),
        "lockbox": lockbox.create_pipeline(),
        "comparison": comparison.create_pipeline(),
        "promotion": promotion.create_pipeline(),
        "rollback": promotion.create_rollback(),
    }
    pipelines["__default__"] = sum((pipelines[name] for name in STAGES), Pipeline([]))
    return pipelines


def prepared_search() -> Pipeline:
    """Return the search behind its own copy of the node that prepares the training, under the names ``search.*``."""
    prepare = training.create_pipeline().only_nodes("prepare_training_sets")
    known = {name for name in prepare.inputs() if not name.startswith("params:")}
    copied = pipeline(
        prepare,
        tags="search",
        namespace="search",
        inputs=known,
        parameters={name for name in prepare.inputs() if name.startswith("params:")},
        outputs={"training_sets": "search_training_sets"},
    )
    return copied + search.create_pipeline()
