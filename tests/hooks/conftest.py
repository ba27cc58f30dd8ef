"""A tracking store, that of the tests of pipelines, and toy pipelines as the registry has them."""

from kedro.pipeline import Pipeline
from tests.pipelines.conftest import empty_store, store

__all__ = ["empty_store", "in_namespaces", "store"]


def in_namespaces(pipelines: dict[str, Pipeline]) -> dict[str, Pipeline]:
    """Each pipeline in a namespace of its name, as the registry has them."""
    return {
        name: Pipeline(made, namespace=name, prefix_datasets_with_namespace=False) for name, made in pipelines.items()
    }
