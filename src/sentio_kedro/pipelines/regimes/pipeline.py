"""The regimes pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.regimes.nodes import filter_regimes, fit_regimes


def create_pipeline() -> Pipeline:
    """Return the pipeline that fits regimes per fold and filters them over all rows."""
    return pipeline(
        [
            node(fit_regimes, ["aligned_bars", "folds", "params:regimes"], "regime_models", name="fit_regimes"),
            node(filter_regimes, ["aligned_bars", "regime_models"], "regime_posteriors", name="filter_regimes"),
        ]
    )
