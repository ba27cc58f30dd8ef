"""Vendors by name, and what is refused before anything is asked."""

import sys

import pytest

from sentio_kedro.vendors import VendorError, open_vendor


@pytest.mark.parametrize(
    ("vendor", "library"), [("yfinance", "yfinance"), ("ccxt.binance", "ccxt"), ("alpaca", "alpaca.data.enums")]
)
def test_a_library_that_is_not_installed_is_named_with_the_extra(monkeypatch, vendor, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(VendorError, match=r"pip install 'sentio_kedro\[data\]'"):
        open_vendor(vendor, "1d", keys={"api_key": "a", "secret_key": "b"} if vendor == "alpaca" else None)


@pytest.mark.parametrize(
    ("vendor", "interval", "reason"),
    [
        ("yahoo", "1d", "`vendor` must be one of yfinance, alpaca, ccxt, stooq"),
        ("alpaca.cta", "1d", "alpaca.sip"),
        ("ccxt.nasdaq", "1d", "an exchange of ccxt"),
        ("ccxt.binance", "2d", "`interval` must be one of 1m, 5m"),
        ("alpaca", "1d", "api_key and secret_key"),
    ],
)
def test_unknown_names_are_refused_with_those_that_are_known(vendor, interval, reason):
    with pytest.raises(VendorError, match=reason):
        open_vendor(vendor, interval)
