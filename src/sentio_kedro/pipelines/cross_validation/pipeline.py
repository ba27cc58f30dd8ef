"""The cross-validation pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.cross_validation.nodes import draw_folds, make_folds


def create_pipeline() -> Pipeline:
    """Return the pipeline that splits rows into purged folds and draws them."""
    sections = ["params:cross_validation", "params:network", "params:regimes", "params:training", "params:trading"]
    return pipeline(
        [
            node(make_folds, ["aligned_bars", "feature_table", *sections], "folds", name="make_folds"),
            node(draw_folds, ["folds", "aligned_bars"], "folds_figure", name="draw_folds"),
        ]
    )
