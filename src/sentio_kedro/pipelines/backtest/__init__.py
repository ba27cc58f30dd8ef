"""Pipeline ``backtest``."""

from sentio_kedro.pipelines.backtest.pipeline import create_pipeline

__all__ = ["create_pipeline"]
