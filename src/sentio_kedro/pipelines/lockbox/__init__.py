"""Pipeline ``lockbox``."""

from sentio_kedro.pipelines.lockbox.pipeline import create_pipeline

__all__ = ["create_pipeline"]
