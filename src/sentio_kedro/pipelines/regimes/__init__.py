"""Pipeline ``regimes``."""

from sentio_kedro.pipelines.regimes.pipeline import create_pipeline

__all__ = ["create_pipeline"]
