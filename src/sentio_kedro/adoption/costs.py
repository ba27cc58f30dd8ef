"""What trading costs by asset class and market, and where each figure comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sentio_kedro.adoption.markets import AssetClass


class Figure(NamedTuple):
    """A value of the section ``trading`` and where it comes from.

    Attributes:
        value: The value.
        source: Where it comes from.
    """

    value: Any
    source: str


Figures = dict[str, dict[str, Figure]]
"""Figures by sub-section and key."""

OFF = None
_NO_LOAN = Figure(0.0, "no shares are borrowed")


def _commission(bps: float, source: str) -> dict[str, Figure]:
    return {"commission_bps": Figure(bps, source)}


STOCK_COMMISSIONS: Mapping[str, dict[str, Figure]] = {
    "XNYS": {
        "commission_bps": Figure(0, "US brokers charge by share"),
        "commission_per_share": Figure(0.005, "Interactive Brokers, fixed price, US dollars"),
        "min_commission": Figure(1.0, "the same, US dollars an order"),
    },
    "XTSE": {
        "commission_bps": Figure(0, "Canadian brokers charge by share"),
        "commission_per_share": Figure(0.01, "Interactive Brokers, fixed price, Canadian dollars"),
        "min_commission": Figure(1.0, "the same, Canadian dollars an order"),
    },
    "XLON": _commission(30.0, "5 bps of a broker, and half of the 50 bps stamp duty that purchases alone pay"),
    "XETR": _commission(5.0, "Interactive Brokers, fixed price for Germany"),
    "XPAR": _commission(20.0, "5 bps of a broker, and half of the 30 bps transaction tax that purchases alone pay"),
    "XTKS": _commission(8.0, "Interactive Brokers, fixed price for Japan"),
    "XKRX": _commission(9.0, "1.5 bps of a broker, and half of the 15 bps tax that sales alone pay (2025)"),
    "XBOM": _commission(13.0, "3 bps of a broker, and the 10 bps transaction tax of delivery, a side"),
    "XHKG": _commission(15.0, "5 bps of a broker, and the 10 bps stamp duty, a side"),
    "XSHG": _commission(5.0, "2.5 bps of a broker, and half of the 5 bps stamp duty that sales alone pay"),
    "XASX": _commission(8.0, "Interactive Brokers, fixed price for Australia"),
}
OTHER_COMMISSION = _commission(10.0, "a retail broker's usual price; put yours")
LOTS: Mapping[str, int] = {"XTKS": 100, "XHKG": 100, "XSHG": 100}
NO_SHORTS: Mapping[str, str] = {
    "XBOM": "shares cannot be sold short overnight there",
    "XSHG": "individuals can hardly borrow shares there",
}


def figures(asset_class: AssetClass, calendar: str, traded: bool) -> Figures:
    """Return the costs and rules of an asset class in a market.

    Args:
        asset_class: What is traded.
        calendar: Name of the market's calendar.
        traded: Whether the volume is one of shares or coins, so that fills can be measured by it.
    """
    chosen: Figures = {"costs": {}, "carry": {}, "orders": {}, "masks": {}}
    _OF_CLASS[asset_class](chosen, calendar)
    if not traded:
        chosen["costs"]["impact"] = Figure(0, "there is no volume to measure an order by")
        chosen["orders"]["participation"] = Figure(OFF, "the same; with it no order could be filled")
        chosen["masks"]["liquidity"] = Figure(OFF, "the same")
    return {section: of_section for section, of_section in chosen.items() if of_section}


def _of_stock(chosen: Figures, calendar: str, half_spread: float = 2.0, of: str = "a liquid share's") -> None:
    chosen["costs"] |= STOCK_COMMISSIONS.get(calendar, OTHER_COMMISSION)
    chosen["costs"]["half_spread_bps"] = Figure(half_spread, f"half of {of} quoted spread, 1 to 5 bps")
    chosen["carry"]["borrow_rate"] = Figure(0.03, "a fee for shares that are not hard to borrow, a year")
    chosen["orders"]["lot_size"] = Figure(LOTS.get(calendar, 1), "the exchange's round lot, or whole shares")
    if calendar in NO_SHORTS:
        chosen["masks"]["no_short"] = Figure(["*"], NO_SHORTS[calendar])


def _of_fund(chosen: Figures, calendar: str) -> None:
    _of_stock(chosen, calendar, 1.0, "a large fund's")


def _of_crypto(chosen: Figures, calendar: str) -> None:
    chosen["costs"] |= _commission(10.0, "Binance spot, taker, lowest tier; Kraken and Coinbase charge 25 to 60")
    chosen["costs"]["half_spread_bps"] = Figure(2.0, "half of the quoted spread of a large coin")
    chosen["carry"]["borrow_rate"] = _NO_LOAN
    chosen["masks"]["no_short"] = Figure(["*"], "spot cannot be sold short; for perpetuals set `preset: perpetual`")


def _of_fx(chosen: Figures, calendar: str) -> None:
    chosen["costs"] |= _commission(0.2, "Interactive Brokers, spot currencies, lowest tier")
    chosen["costs"]["half_spread_bps"] = Figure(0.5, "half of one pip of EURUSD")
    chosen["carry"]["borrow_rate"] = Figure(0.0, "both currencies' interest is left out; rollover of a pair may matter")
    chosen["orders"]["lot_size"] = Figure(1000, "a micro lot")


def _of_future(chosen: Figures, calendar: str) -> None:
    chosen["costs"] |= _commission(0.2, "about 2.25 US dollars a contract of 100,000 or more")
    chosen["costs"]["half_spread_bps"] = Figure(0.5, "half of a tick of ES")
    chosen["carry"]["borrow_rate"] = _NO_LOAN
    chosen["carry"]["financing_rate"] = Figure(0.0, "margin is no loan; the roll is in the prices, or is not")


_OF_CLASS = {"stock": _of_stock, "etf": _of_fund, "crypto": _of_crypto, "fx": _of_fx, "future": _of_future}
