"""The pipelines that choose the champion."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.promotion.nodes import (
    call_candidates,
    decide,
    let_take_effect,
    measure,
    measure_choice,
    step_back,
)

DECISION = "registry_decision"
RECORDED = [DECISION, "promotions@append"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that lets a challenger become champion, or says which gate it failed."""
    gates, registry = "params:promotion", "params:registry"
    return pipeline(
        [
            node(call_candidates, [gates, registry, "logged_model"], "candidates", name="call_candidates"),
            node(measure_choice, ["candidates", "trials", "params:reporting"], "gate_choice", name="measure_choice"),
            node(
                measure,
                ["candidates", "aligned_bars", "folds", gates, "gate_choice"],
                "gate_metrics",
                name="measure_candidates",
            ),
            node(decide, ["candidates", "gate_metrics", gates], ["gate_verdicts", *RECORDED], name="decide_promotion"),
            node(let_take_effect, [DECISION, "promotions@read"], None, name="promote"),
        ],
        tags="promotion",
    )


def create_rollback() -> Pipeline:
    """Return the pipeline that makes the previous champion champion again."""
    return pipeline(
        [
            node(step_back, "params:registry", RECORDED, name="step_back"),
            node(let_take_effect, [DECISION, "promotions@read"], None, name="roll_back"),
        ],
        tags="rollback",
    )
