"""What tests of venues share."""

import functools
import ssl

import pytest


@pytest.fixture(scope="module")
def ccxt():
    """Import ccxt once, which takes longer than the tests, and read the certificates once, which no fake needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield pytest.importorskip("ccxt.async_support")
