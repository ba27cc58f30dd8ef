"""The features pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.features.nodes import compute_features, list_features


def create_pipeline() -> Pipeline:
    """Return the pipeline that turns bars into features."""
    return pipeline(
        [
            node(
                compute_features,
                ["aligned_bars", "params:features", "params:trading"],
                "features",
                name="compute_features",
            ),
            node(list_features, "params:features", "feature_table", name="list_features"),
        ]
    )
