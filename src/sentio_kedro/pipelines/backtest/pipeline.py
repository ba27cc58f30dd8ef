"""The backtest pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.backtest.nodes import OUTPUTS, run_backtest


def create_pipeline() -> Pipeline:
    """Return the pipeline that tests agents out of sample."""
    tested = ["agents", "aligned_bars", "features", "folds", "forecasts"]
    sections = ["params:backtest", "params:trading", "params:ingestion"]
    return pipeline([node(run_backtest, [*tested, *sections], list(OUTPUTS), name="run_backtest")])
