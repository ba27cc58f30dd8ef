"""Pipeline ``forecasting``."""

from sentio_kedro.pipelines.forecasting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
