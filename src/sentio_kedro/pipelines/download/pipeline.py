"""The download pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.download.nodes import fetch_bars


def create_pipeline() -> Pipeline:
    """Return the pipeline that fetches the bars of a vendor into the store."""
    return pipeline([node(fetch_bars, ["vendor_bars", "params:download"], "bar_store", name="fetch_bars")])
