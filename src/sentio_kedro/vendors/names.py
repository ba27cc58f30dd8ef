"""Vendors by name; the library of one is imported when it is opened, and not before."""

from __future__ import annotations

from collections.abc import Mapping

from sentio_kedro.vendors.contract import INTERVALS, Clock, Vendor, VendorError
from sentio_kedro.vendors.transport import Transport

VENDORS = {"yfinance": (), "alpaca": ("iex", "sip", "boats", "otc"), "ccxt": ("binance",), "stooq": ()}
"""Vendors, and the feeds or venues that may follow a dot; the first is the default. ccxt takes any of its exchanges."""
_KEYS = ("api_key", "secret_key")


def vendor_problem(vendor: str, interval: str) -> str | None:
    """Return what is wrong with the names of a vendor and an interval, or None."""
    name, _, part = vendor.partition(".")
    parts = VENDORS.get(name, ())
    if name not in VENDORS or (part and name != "ccxt" and part not in parts):
        known = [*VENDORS, *(f"alpaca.{feed}" for feed in VENDORS["alpaca"]), "ccxt.<exchange>"]
        return f"`vendor` must be one of {', '.join(known)}, was {vendor!r}; change it."
    if interval not in INTERVALS:
        return f"`interval` must be one of {', '.join(INTERVALS)}, was {interval!r}; change it."
    return None


def open_vendor(
    vendor: str,
    interval: str,
    *,
    keys: Mapping[str, str] | None = None,
    url: str | None = None,
    per_minute: float = 60.0,
    clock: Clock | None = None,
) -> Vendor:
    """Open a vendor.

    Args:
        vendor: ``yfinance``, ``alpaca[.feed]``, ``ccxt[.exchange]`` or ``stooq``.
        interval: One of ``INTERVALS``.
        keys: ``api_key`` and ``secret_key`` of alpaca.
        url: Another address than the vendor's, or Stooq's files.
        per_minute: Largest number of requests a minute.
        clock: Time and waiting; null is the system's.

    Raises:
        VendorError: If a name is unknown, the vendor's library is not installed, or keys are missing.
    """
    problem = vendor_problem(vendor, interval)
    if problem:
        raise VendorError(problem)
    name, _, part = vendor.partition(".")
    keys = dict(keys or {})
    transport = Transport(vendor, per_minute, tuple(keys.values()), clock)
    try:
        if name == "yfinance":
            from sentio_kedro.vendors.yahoo import Yahoo  # noqa: PLC0415 - its library may not be there

            return Yahoo(interval, transport, url)
        if name == "ccxt":
            from sentio_kedro.vendors.exchanges import Exchange  # noqa: PLC0415

            return Exchange(interval, part or "binance", transport, url)
        if name == "alpaca":
            from sentio_kedro.vendors.alpaca_markets import AlpacaMarkets  # noqa: PLC0415

            if sorted(keys) != sorted(_KEYS):
                raise VendorError(
                    f"`credentials` of alpaca must hold {' and '.join(_KEYS)}, hold {sorted(keys) or 'nothing'}; write "
                    "them into conf/local/credentials.yml and name that entry."
                )
            return AlpacaMarkets(interval, part or "iex", keys, transport, url)
    except ModuleNotFoundError as error:
        raise VendorError(
            f"`vendor` {vendor} needs a library that is not installed ({error.name}); type "
            "`pip install 'sentio_kedro[data]'`."
        ) from None
    from sentio_kedro.vendors.stooq import Stooq  # noqa: PLC0415

    return Stooq(interval, transport, url)
