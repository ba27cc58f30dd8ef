"""The lockbox pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.lockbox.nodes import measure_lockbox, record_opening, trade_lockbox


def create_pipeline() -> Pipeline:
    """Return the pipeline that opens the lockbox.

    The ledger gets its record before the lockbox is traded: the node that trades reads the ledger and the record, which
    is in memory alone, so that no part of the pipeline trades without a record. Before that it is read as
    ``earlier_openings``.
    """
    opening = ["agents", "aligned_bars", "folds", "data_quality", "parameters", "earlier_openings"]
    market = ["agents", "aligned_bars", "features", "folds", "params:backtest", "params:trading", "params:ingestion"]
    outcome = ["lockbox_frames", "lockbox_opening", "aligned_bars", "folds"]
    sections = ["params:ingestion", "params:trading", "params:reporting"]
    return pipeline(
        [
            node(record_opening, opening, ["lockbox_openings@append", "lockbox_opening"], name="record_opening"),
            node(
                trade_lockbox,
                ["lockbox_openings@read", "lockbox_opening", *market],
                ["lockbox_accounts", "lockbox_frames"],
                name="trade_lockbox",
            ),
            node(measure_lockbox, [*outcome, *sections], ["lockbox_metrics", "lockbox_result"], name="measure_lockbox"),
        ]
    )
