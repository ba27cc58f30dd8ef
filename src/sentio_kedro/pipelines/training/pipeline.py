"""The training pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.training.nodes import log_agents, prepare_training_sets, train_agents


def create_pipeline() -> Pipeline:
    """Return the pipeline that trains agents from catalog artifacts."""
    market = ["aligned_bars", "features", "folds", "regime_models"]
    market += ["forecasts", "forecast_rules", "params:features", "params:ingestion", "params:trading"]
    sections = ["params:network", "params:training", "params:trading"]
    run = ["folds", "data_quality", "checkpoints"]
    logged = ["agents", "aligned_bars", "folds", "data_quality", "params:registry"]
    results = ["agents", "training_curves", "agent_table", "training_timings"]
    return pipeline(
        [
            node(prepare_training_sets, market, "training_sets", name="prepare_training_sets"),
            node(train_agents, ["training_sets", *run, *sections], results, name="train_agents"),
            node(log_agents, logged, "logged_model", name="log_agents"),
        ]
    )
