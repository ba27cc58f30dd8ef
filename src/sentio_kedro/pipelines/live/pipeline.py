"""The live pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.live.nodes import DRAWN, choose, compare, draw, measure, resample, track, write


def create_pipeline() -> Pipeline:
    """Return the pipeline that compares a trader's journal with the backtest on its bars."""
    agents = ["params:trader", "agents", "logged_model", "params:registry.model", "earlier_promotions"]
    journal = ["live_states", "live_accounts", "live_trades", "live_decisions", "live_bars"]
    compared = ["live_agents", *journal, "bars", "params:ingestion", "params:trader"]
    plots = [f"{name}_figure" for name in DRAWN]
    record, tested = "params:reporting", ["live_comparison", "live_band", "metrics"]
    tracked = ["live_metrics", "live_differences", "live_report", "params:registry.model"]
    return pipeline(
        [
            node(choose, agents, "live_agents", name="choose_agents"),
            node(compare, compared, "live_comparison", name="compare_with_backtest"),
            node(resample, ["live_comparison", "test_returns", record], "live_band", name="resample_record"),
            node(measure, [*tested, record], ["live_metrics", "live_differences"], name="measure_live"),
            node(draw, ["live_comparison", "live_band", "live_metrics"], plots, name="draw_live"),
            node(write, ["live_metrics", *plots], "live_report", name="write_live"),
            node(track, [*tracked, "params:comparison.experiment", *plots], None, name="track_live"),
        ]
    )
