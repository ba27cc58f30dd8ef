"""A tracking store, that of the tests of pipelines."""

from tests.pipelines.conftest import empty_store, store

__all__ = ["empty_store", "store"]
