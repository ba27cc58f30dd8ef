"""The ingestion pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.ingestion.nodes import align_bars, measure_data_quality


def create_pipeline() -> Pipeline:
    """Return the pipeline that reads, checks and aligns bars."""
    return pipeline(
        [
            node(align_bars, ["bars", "params:ingestion", "params:trading"], "aligned_bars", name="align_bars"),
            node(
                measure_data_quality,
                ["bars", "aligned_bars", "params:ingestion", "params:trading"],
                "data_quality",
                name="measure_data_quality",
            ),
        ]
    )
