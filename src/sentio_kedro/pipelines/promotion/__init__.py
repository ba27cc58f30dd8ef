"""Pipelines ``promotion`` and ``rollback``."""

from sentio_kedro.pipelines.promotion.pipeline import create_pipeline, create_rollback

__all__ = ["create_pipeline", "create_rollback"]
