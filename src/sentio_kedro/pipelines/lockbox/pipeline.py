"""The lockbox pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.lockbox.nodes import measure_lockbox, record_opening, trade_lockbox


def create_pipeline() -> Pipeline:
    """Return the pipeline that opens the lockbox.

    The ledger gets its record before the lockbox is traded: what trades reads the ledger and the record itself, which
    is kept in memory only, so that no part of the pipeline opens it without.
    """
    told = ["agents", "aligned_bars", "folds", "data_quality", "parameters"]
    known = ["agents", "aligned_bars", "features", "folds", "params:backtest", "params:trading", "params:ingestion"]
    judged = ["lockbox_frames", "lockbox_opening", "aligned_bars", "folds"]
    sections = ["params:ingestion", "params:training", "params:trading", "params:reporting"]
    return pipeline(
        [
            node(record_opening, told, ["lockbox_openings@append", "lockbox_opening"], name="record_opening"),
            node(
                trade_lockbox,
                ["lockbox_openings@read", "lockbox_opening", *known],
                ["lockbox_accounts", "lockbox_frames"],
                name="trade_lockbox",
            ),
            node(measure_lockbox, [*judged, *sections], ["lockbox_metrics", "lockbox_result"], name="measure_lockbox"),
        ],
        tags="lockbox",
    )
