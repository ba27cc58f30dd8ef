"""Fetch the bars of a vendor into the store."""

from __future__ import annotations

from collections.abc import Callable

from sentio_kedro.config import DownloadParameters
from sentio_kedro.store import Appended, StoredBars
from sentio_kedro.vendors.download import download
from sentio_kedro.vendors.request import Request, moment


def fetch_bars(vendor_bars: Request, parameters: DownloadParameters) -> Callable[[StoredBars], Appended]:
    """Return the function that fills the store, which asks it how far each symbol has come."""
    until = vendor_bars.until
    if parameters.until is not None:
        until = moment(parameters.until, "download.until", end_of_day=True)
    return lambda store: download(vendor_bars.vendor, store, vendor_bars.symbols, vendor_bars.start, until)
