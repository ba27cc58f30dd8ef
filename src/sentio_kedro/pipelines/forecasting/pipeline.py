"""The forecasting pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.forecasting.nodes import fit_final, fit_forecasts


def create_pipeline() -> Pipeline:
    """Return the pipeline that forecasts returns fold by fold and tests the forecasts."""
    market = ["aligned_bars", "folds", "regime_models", "params:forecasting", "params:trading", "params:ingestion"]
    return pipeline([node(fit_forecasts, market, ["forecasts", "evidence", "forecast_rules"], name="fit_forecasts")])


def create_final() -> Pipeline:
    """Return the pipeline that fits the latest fold's rule on all bars."""
    market = ["aligned_bars", "folds", "agents", "params:forecasting", "params:ingestion"]
    return pipeline([node(fit_final, market, "final_agents", name="fit_final")])
