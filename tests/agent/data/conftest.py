"""Synthetic bars, those of the tests of the market package."""

from tests.market.conftest import traded_fixture, walk_fixture

__all__ = ["traded_fixture", "walk_fixture"]
