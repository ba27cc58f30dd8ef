"""Pipeline ``live``."""

from sentio_kedro.pipelines.live.pipeline import create_pipeline

__all__ = ["create_pipeline"]
