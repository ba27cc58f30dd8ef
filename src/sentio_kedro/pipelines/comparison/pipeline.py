"""The comparison pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.comparison.nodes import compare, draw, track, write


def create_pipeline() -> Pipeline:
    """Return the pipeline that compares finished runs of MLflow."""
    results, section = ["comparison_table", "comparison_figure", "comparison"], "params:comparison"
    return pipeline(
        [
            node(compare, section, "comparison_table", name="compare_runs"),
            node(draw, "comparison_table", "comparison_figure", name="draw_comparison"),
            node(write, ["comparison_table", section], "comparison", name="write_comparison"),
            node(track, [*results, section], None, name="track_comparison"),
        ]
    )
