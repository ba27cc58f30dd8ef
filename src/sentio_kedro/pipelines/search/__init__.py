"""Pipeline ``search``."""

from sentio_kedro.pipelines.search.pipeline import create_pipeline

__all__ = ["create_pipeline"]
