"""The signals pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.signals.nodes import decide


def create_pipeline() -> Pipeline:
    """Return the pipeline that turns the newest bars into signals."""
    given = ["bars", "agents", "account_states"]
    inputs = [*given, "params:ingestion", "params:signals", "universe", "params:universe"]
    return pipeline([node(decide, inputs, "signals", name="decide")])
