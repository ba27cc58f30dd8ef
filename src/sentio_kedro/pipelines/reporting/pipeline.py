"""The reporting pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.reporting.nodes import (
    DRAWN,
    collect_frames,
    describe_agents,
    draw,
    export_returns,
    measure,
    record_trial,
    state_facts,
    tag_model_version,
    write_report,
)

FRAMES = (
    *("accounts", "positions", "trades", "holdings", "actions", "masks", "value_at_risk", "robustness"),
    *("regime_posteriors", "training_curves", "agent_table", "evidence"),
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that turns a backtest into metrics, figures and the report."""
    facts = ["aligned_bars", "folds", "params:ingestion", "params:trading"]
    tested = ["agents_origin", "data_quality", "folds"]
    measured = ["run_frames", "run_facts", "recorded_trials", "lockbox_openings@read", *tested, "params:reporting"]
    trial = ["run_frames", "run_facts", *tested, "trials", "params:reporting"]
    plots = [f"{name}_figure" for name in DRAWN]
    page = ["metrics", "data_quality", "logged_model", "parameters", "folds_figure", *plots]
    return pipeline(
        [
            node(collect_frames, list(FRAMES), "run_frames", name="collect_frames"),
            node(state_facts, [*facts, "params:cross_validation.scheme"], "run_facts", name="state_facts"),
            node(describe_agents, ["agents", "data_quality", "parameters"], "agents_origin", name="describe_agents"),
            node(export_returns, ["run_frames", "aligned_bars"], "test_returns", name="export_returns"),
            node(record_trial, trial, "recorded_trials", name="record_trial"),
            node(measure, measured, "metrics", name="measure"),
            node(tag_model_version, ["metrics", "logged_model"], None, name="tag_model_version"),
            node(draw, ["run_frames", "run_facts", "metrics", "folds_figure"], plots, name="draw"),
            node(write_report, page, "report", name="write_report"),
        ]
    )
