"""The pipelines of the project, by the names that ``kedro run --pipeline`` takes."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from kedro.pipeline import Pipeline

from sentio_kedro.manifests import STAGES


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline; ``__default__`` is all stages in order, without ``signals``."""
    names = [name for name in (*STAGES, "signals") if find_spec(f"sentio_kedro.pipelines.{name}")]
    pipelines = {name: import_module(f"sentio_kedro.pipelines.{name}").create_pipeline() for name in names}
    pipelines["__default__"] = sum((pipelines[name] for name in names if name in STAGES), Pipeline([]))
    return pipelines
