"""The forecasting pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.forecasting.nodes import draw_evidence, fit_forecasts


def create_pipeline() -> Pipeline:
    """Return the pipeline that forecasts returns fold by fold and tests the forecasts."""
    market = ["aligned_bars", "folds", "regime_models", "params:forecasting", "params:trading", "params:ingestion"]
    return pipeline(
        [
            node(fit_forecasts, market, ["forecasts", "evidence", "forecast_rules"], name="fit_forecasts"),
            node(draw_evidence, "evidence", "evidence_figure", name="draw_evidence"),
        ]
    )
