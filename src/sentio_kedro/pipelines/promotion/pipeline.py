"""The pipelines that choose the champion."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.promotion.nodes import (
    apply_decision,
    decide,
    decide_rollback,
    measure,
    measure_choice,
    read_candidates,
)

DECISION = "registry_decision"
RECORDED = [DECISION, "promotions@append"]
EARLIER = "earlier_promotions"  # the same ledger, read before it is appended to


def create_pipeline() -> Pipeline:
    """Return the pipeline that decides whether a challenger becomes champion."""
    gates, registry = "params:promotion", "params:registry"
    tried = ["candidates", "trials", "lockbox_openings@read"]
    return pipeline(
        [
            node(read_candidates, [gates, registry, "logged_model"], "candidates", name="read_candidates"),
            node(measure_choice, [*tried, "params:reporting"], "gate_choice", name="measure_choice"),
            node(
                measure,
                ["candidates", "aligned_bars", "folds", gates, "gate_choice"],
                "gate_metrics",
                name="measure_candidates",
            ),
            node(
                decide,
                ["candidates", "gate_metrics", gates, EARLIER],
                ["gate_verdicts", *RECORDED],
                name="decide_promotion",
            ),
            node(apply_decision, [DECISION, "promotions@read"], None, name="promote"),
        ]
    )


def create_rollback() -> Pipeline:
    """Return the pipeline that makes the previous champion champion again."""
    return pipeline(
        [
            node(decide_rollback, ["params:registry", EARLIER], RECORDED, name="decide_rollback"),
            node(apply_decision, [DECISION, "promotions@read"], None, name="roll_back"),
        ]
    )
