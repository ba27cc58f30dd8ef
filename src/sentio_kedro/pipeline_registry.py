"""The pipelines of the project, by the names that ``kedro run --pipeline`` takes."""

from __future__ import annotations

from kedro.pipeline import Pipeline, pipeline

from sentio_kedro.manifests import STAGES
from sentio_kedro.pipelines import (
    backtest,
    comparison,
    cross_validation,
    external_test,
    features,
    forecasting,
    ingestion,
    lockbox,
    preflight,
    promotion,
    regimes,
    reporting,
    search,
    signals,
    training,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline in a namespace of its name; ``__default__`` is all stages in order.

    kedro-viz folds a namespace into one box. Datasets and parameters keep the names of the catalog, but for those of
    ``external_test``.
    """
    pipelines = {
        "preflight": preflight.create_pipeline(),
        "ingestion": ingestion.create_pipeline(),
        "features": features.create_pipeline(),
        "cross_validation": cross_validation.create_pipeline(),
        "regimes": regimes.create_pipeline(),
        "forecasting": forecasting.create_pipeline(),
        "training": training.create_pipeline(),
        "backtest": backtest.create_pipeline(),
        "reporting": reporting.create_pipeline(),
        "signals": signals.create_pipeline(),
        "final": final_signals(),
        "search": prepared_search(),
        "lockbox": lockbox.create_pipeline(),
        "comparison": comparison.create_pipeline(),
        "promotion": promotion.create_pipeline(),
        "rollback": promotion.create_rollback(),
    }
    pipelines = {
        name: pipeline(nodes, namespace=name, prefix_datasets_with_namespace=False) for name, nodes in pipelines.items()
    }
    pipelines["external_test"] = reported_external_test()
    pipelines["__default__"] = sum((pipelines[name] for name in STAGES), Pipeline([]))
    return pipelines


def final_signals() -> Pipeline:
    """Return the fit on all bars, and the signals of its agents."""
    decide = signals.create_pipeline()
    return forecasting.create_final() + pipeline(
        decide, inputs={"agents": "final_agents"}, outputs={"signals": "final_signals"}
    )


def prepared_search() -> Pipeline:
    """Return the search behind its own copy of the node that prepares the training sets."""
    prepare = training.create_pipeline().only_nodes("prepare_training_sets")
    return pipeline(prepare, outputs={"training_sets": "search_training_sets"}) + search.create_pipeline()


def reported_external_test() -> Pipeline:
    """Return the test of an external agent and copies of the nodes that report it, under the names ``external_test.*``.

    Its datasets have names of their own, so that nothing of this project's backtest is replaced.
    """
    report = reporting.create_pipeline().only_nodes("export_returns", "record_trial", "measure", "draw", "write_report")
    whole = external_test.create_pipeline() + cross_validation.create_pipeline().only_nodes("draw_folds") + report
    return pipeline(
        whole,
        namespace="external_test",
        inputs={name for name in whole.inputs() if not name.startswith("params:") and name != "parameters"},
        parameters={name for name in whole.inputs() if name.startswith("params:")},
    )
