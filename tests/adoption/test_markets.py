"""What is traded, as far as names tell."""

import pytest

from sentio_kedro.adoption.markets import asset_class, home


@pytest.mark.parametrize(
    ("symbols", "told"),
    [
        (["BTCUSDT", "ETHUSDT"], "crypto"),
        (["BTC/USD"], "crypto"),
        (["XBTUSD"], "crypto"),
        (["EURUSD", "USDJPY"], "fx"),
        (["EUR/USD"], "fx"),
        (["ES=F"], "future"),
        (["NQ1!"], "future"),
        (["ESH24"], "future"),
        (["SPY", "TLT"], "etf"),
    ],
)
def test_names_tell_the_asset_class(symbols, told):
    assert asset_class(symbols, "plain", weekends=False).value == told


def test_names_of_shares_do_not_and_weekends_do():
    assert asset_class(["AAPL", "SPY"], "plain", weekends=False) is None
    assert asset_class(["X"], "plain", weekends=True).value == "crypto"
    assert asset_class(["X"], "binance_klines", weekends=False).value == "crypto"


@pytest.mark.parametrize(
    ("symbols", "calendar", "sure"),
    [
        (["AAPL.US"], "XNYS", True),
        (["7203-T"], "XTKS", True),
        (["005930", "000660"], "XKRX", False),
        (["600519"], "XSHG", False),
        (["7203"], "XTKS", False),
        (["AAPL", "BRK.B"], "XNYS", False),
    ],
)
def test_names_suggest_a_calendar(symbols, calendar, sure):
    told = home(symbols, "plain")
    assert (told.value, told.sure) == (calendar, sure)


def test_other_names_suggest_none():
    assert home(["my bars"], "plain") is None
