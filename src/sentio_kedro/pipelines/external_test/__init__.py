"""The external test pipeline."""

from sentio_kedro.pipelines.external_test.pipeline import create_pipeline

__all__ = ["create_pipeline"]
