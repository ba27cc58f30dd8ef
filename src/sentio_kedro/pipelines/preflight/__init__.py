"""Pipeline ``preflight``."""

from sentio_kedro.pipelines.preflight.pipeline import create_pipeline

__all__ = ["create_pipeline"]
