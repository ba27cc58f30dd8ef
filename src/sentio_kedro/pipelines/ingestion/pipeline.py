"""The ingestion pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.ingestion.nodes import align_bars


def create_pipeline() -> Pipeline:
    """Return the pipeline that reads, checks, aligns and describes bars."""
    read = ["bars", "universe", "params:ingestion", "params:universe", "params:trading"]
    return pipeline([node(align_bars, read, ["aligned_bars", "data_quality"], name="align_bars")])
