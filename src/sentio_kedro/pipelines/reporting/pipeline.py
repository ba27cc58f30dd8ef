"""The reporting pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.reporting.nodes import (
    SHOWN,
    collect_frames,
    describe_version,
    draw,
    keep_returns,
    measure,
    record_trial,
    state_facts,
    write_report,
)

FRAMES = (
    *("accounts", "positions", "trades", "actions", "masks", "robustness"),
    *("regime_posteriors", "training_curves", "agent_table"),
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that turns a backtest into metrics, figures and the report."""
    facts = ["aligned_bars", "folds", "run_frames", "params:ingestion", "params:training", "params:trading"]
    judged = ["run_frames", "run_facts", "params:reporting", "recorded_trials", "lockbox_openings@read"]
    tried = ["run_frames", "data_quality", "parameters", "agents", "trials", "params:reporting", "folds"]
    scheme, backtest = "params:cross_validation.scheme", "params:backtest"
    drawn = ["figures", *(f"{name}_figure" for name in SHOWN)]
    told = ["metrics", "figures", "data_quality", "logged_model", "parameters", backtest]
    return pipeline(
        [
            node(collect_frames, [*FRAMES, backtest], "run_frames", name="collect_frames"),
            node(state_facts, [*facts, scheme, backtest], "run_facts", name="state_facts"),
            node(keep_returns, ["run_frames", "aligned_bars"], "test_returns", name="keep_returns"),
            node(record_trial, tried, "recorded_trials", name="record_trial"),
            node(measure, [*judged, "data_quality", "parameters", "folds"], "metrics", name="measure"),
            node(describe_version, ["metrics", "logged_model", backtest], None, name="describe_version"),
            node(draw, ["run_frames", "run_facts", "metrics", "folds_figure", backtest], drawn, name="draw"),
            node(write_report, told, "report", name="write_report"),
        ],
        tags="reporting",
    )
