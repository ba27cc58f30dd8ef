"""Pipeline ``signals``."""

from sentio_kedro.pipelines.signals.pipeline import create_pipeline

__all__ = ["create_pipeline"]
