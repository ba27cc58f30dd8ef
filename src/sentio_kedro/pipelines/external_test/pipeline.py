"""The external test pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.evaluation.backtest.backtest import load_agent
from sentio_kedro.pipelines.external_test.nodes import (
    describe_agent,
    locate_test_rows,
    state_facts,
    trade_bars,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that tests an agent trained elsewhere; the registry adds the nodes that report it."""
    bars, ingestion, training = ["agent", "aligned_bars"], "params:ingestion", "params:training"
    rows = [*bars, "accounts", "params:cross_validation", training]
    origin = ["agent", "data_quality", "parameters"]
    return pipeline(
        [
            node(load_agent, "params:external_test", "agent", name="load_agent"),
            node(trade_bars, [*bars, "params:backtest", ingestion], ["accounts", "run_frames"], name="trade_bars"),
            node(locate_test_rows, rows, "folds", name="locate_test_rows"),
            node(state_facts, [*bars, ingestion], "run_facts", name="state_facts"),
            node(describe_agent, origin, ["agents_origin", "logged_model"], name="describe_agent"),
        ]
    )
