"""The signals pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.signals.nodes import decide


def create_pipeline() -> Pipeline:
    """Return the pipeline that turns the newest bars into signals."""
    inputs = ["bars", "agents", "account_states", "params:ingestion", "params:signals"]
    return pipeline([node(decide, inputs, "signals", name="decide")])
