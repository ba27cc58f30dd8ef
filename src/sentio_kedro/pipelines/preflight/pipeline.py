"""The preflight pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.preflight.nodes import summarise


def create_pipeline() -> Pipeline:
    """Return the pipeline that checks what a whole run needs and says so, without writing anything."""
    return pipeline([node(summarise, ["bars", "universe", "artifacts_folder", "parameters"], None, name="summarise")])
