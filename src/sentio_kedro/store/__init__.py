"""Bars of vendors on disk or in a bucket, appended and never changed, read as they were known at any time."""

from sentio_kedro.store.store import Appended, StoredBars

__all__ = ["Appended", "StoredBars"]
