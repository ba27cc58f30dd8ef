"""The search pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from sentio_kedro.pipelines.search.nodes import search_parameters


def create_pipeline() -> Pipeline:
    """Return the pipeline that searches parameters of network and training on validation rows.

    It reads ``search_training_sets``, which the registry lets the node that prepares the training make.
    """
    kept = ["search_training_sets", "folds", "data_quality", "search_store"]
    sections = [
        "parameters",
        "params:network",
        "params:training",
        "params:trading",
        "params:search",
        "trials",
        "params:reporting",
    ]
    made = ["search_trials", "search_returns", "best_parameters"]
    return pipeline([node(search_parameters, [*kept, *sections], made, name="search_parameters")])
