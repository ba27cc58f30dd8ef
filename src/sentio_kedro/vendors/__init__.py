"""Bars from vendors: one contract for all, polite requests, and a download into the store that goes on after a kill."""

from sentio_kedro.vendors.contract import INTERVALS, Vendor, VendorError
from sentio_kedro.vendors.names import open_vendor, vendor_problem

__all__ = ["INTERVALS", "Vendor", "VendorError", "open_vendor", "vendor_problem"]
