"""Pipeline ``forecasting``."""

from sentio_kedro.pipelines.forecasting.pipeline import create_final, create_pipeline

__all__ = ["create_final", "create_pipeline"]
