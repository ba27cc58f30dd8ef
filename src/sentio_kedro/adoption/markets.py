"""What is traded and where, as far as names tell: asset class and home calendar, with the evidence."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, get_args

AssetClass = Literal["stock", "etf", "crypto", "fx", "future"]
ASSET_CLASSES: tuple[AssetClass, ...] = get_args(AssetClass)


class Told(NamedTuple):
    """A value and where it is from.

    Attributes:
        value: The value.
        evidence: What it was told by.
        sure: Whether that leaves no doubt.
    """

    value: str
    evidence: str
    sure: bool = True


CLASS_OF_VENDOR: Mapping[str, AssetClass] = {
    "binance": "crypto",
    "kraken": "crypto",
    "cryptodatadownload": "crypto",
    "bitstamp": "crypto",
    "coinbase": "crypto",
    "bybit": "crypto",
    "ccxt": "crypto",
    "histdata": "fx",
    "nse": "stock",
    "japan": "stock",
    "korea": "stock",
    "krx": "stock",
}
HOME_OF_VENDOR: Mapping[str, str] = {"nse": "XBOM", "japan": "XTKS", "korea": "XKRX", "krx": "XKRX"}
HOME_OF_SUFFIX: Mapping[str, str] = {
    **{".US": "XNYS", ".N": "XNYS", ".O": "XNYS", ".TO": "XTSE", ".L": "XLON", ".UK": "XLON", ".DE": "XETR"},
    **{".PA": "XPAR", ".T": "XTKS", "-T": "XTKS", ".JP": "XTKS", ".KS": "XKRX", ".KQ": "XKRX", ".NS": "XBOM"},
    **{".BO": "XBOM", ".HK": "XHKG", ".SS": "XSHG", ".SZ": "XSHG", ".AX": "XASX"},
}
CURRENCIES = frozenset(
    "AUD CAD CHF CNH CZK DKK EUR GBP HKD HUF ILS JPY MXN NOK NZD PLN SEK SGD TRY USD ZAR XAU XAG".split()
)
COINS = frozenset(
    "ADA AVAX BCH BNB BTC DOGE DOT EOS ETC ETH LINK LTC MATIC SHIB SOL TRX UNI XBT XLM XMR XRP ZEC".split()
)
_STABLE = frozenset("USDT USDC BUSD FDUSD TUSD DAI".split())
FUNDS = frozenset(
    "AGG DIA EEM EFA GLD HYG IEF IJR IVV IWM LQD QQQ SLV SPY TLT USO VEA VNQ VOO VTI VWO XLE XLF XLK XLV".split()
)
_FUTURE = re.compile(r"[A-Z0-9]{1,3}(?:=F|\d!|[ _-]?[FGHJKMNQUVXZ]\d{1,2})")
_TICKER = re.compile(r"[A-Z]{1,5}(?:[.-][AB])?")


def asset_class(symbols: Collection[str], format_name: str, weekends: bool) -> Told | None:
    """Tell the asset class, or null where only a person can.

    Args:
        symbols: Symbols of the bars.
        format_name: Name of the files' format.
        weekends: Whether there are bars on Saturdays and Sundays.
    """
    names = [symbol.upper() for symbol in symbols]
    pairs = [_pair(name) for name in names]
    if all(pair and (pair[0] in COINS or pair[1] in _STABLE) for pair in pairs):
        return Told("crypto", f"{names[0]} is a coin in a currency")
    if all(pair and {*pair} <= CURRENCIES for pair in pairs):
        return Told("fx", f"{names[0]} is a pair of currencies")
    if all(_FUTURE.fullmatch(name) for name in names):
        return Told("future", f"{names[0]} is written as a contract")
    if set(names) <= FUNDS:
        return Told("etf", f"{names[0]} is a fund that everybody knows")
    for vendor, told in CLASS_OF_VENDOR.items():
        if vendor in format_name.lower():
            return Told(told, f"the format {format_name} is of {told}")
    return Told("crypto", "there are bars on Saturdays and Sundays") if weekends else None


def home(symbols: Collection[str], format_name: str) -> Told | None:
    """Tell the calendar that the names of symbols or the format suggest; null if they suggest none."""
    for vendor, calendar in HOME_OF_VENDOR.items():
        if vendor in format_name.lower():
            return Told(calendar, f"the format {format_name}")
    names = [symbol.upper() for symbol in symbols]
    for suffix, calendar in HOME_OF_SUFFIX.items():
        if all(name.endswith(suffix) for name in names):
            return Told(calendar, f"symbols that end with {suffix}")
    if all(name.isdigit() and len(name) == 6 for name in names):  # noqa: PLR2004 - Chinese ones begin with 6, 0 or 3
        return Told("XSHG" if all(name[0] in "63" for name in names) else "XKRX", "codes of six digits", sure=False)
    if all(name.isdigit() and len(name) == 4 for name in names):  # noqa: PLR2004 - Tokyo's
        return Told("XTKS", "codes of four digits", sure=False)
    if all(_TICKER.fullmatch(name) for name in names):
        return Told("XNYS", f"{names[0]} is written as a US ticker", sure=False)
    return None


def _pair(name: str) -> tuple[str, str] | None:
    """Return the two parts of a pair such as BTCUSDT, BTC/USD or EURUSD."""
    for cut in range(3, min(6, len(name) - 2)):
        first, second = name[:cut], name[cut:].lstrip("-/_")
        if (first in CURRENCIES | COINS) and (second in CURRENCIES | COINS | _STABLE):
            return first, second
    return None
