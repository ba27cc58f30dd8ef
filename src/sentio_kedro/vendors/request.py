"""What is asked of a vendor: symbols and a span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from sentio_kedro.vendors.contract import Vendor

_DATE = len("2026-01-31")


@dataclass(frozen=True)
class Request:
    """Bars that are asked of a vendor.

    Attributes:
        vendor: The opened vendor.
        symbols: Symbols as the vendor writes them.
        start: Bars that begin at this time or later.
        until: Bars that end by this time; None is now.
    """

    vendor: Vendor
    symbols: tuple[str, ...]
    start: pd.Timestamp
    until: pd.Timestamp | None


def moment(value: Any, name: str, *, end_of_day: bool = False) -> pd.Timestamp:
    """Return a date or time in UTC.

    Args:
        value: Text, date or timestamp; UTC if it names no zone.
        name: Of the setting, for the refusal.
        end_of_day: Whether a date without a time means the midnight at its end.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        stamp = pd.Timestamp(value)
        if pd.isna(stamp):
            raise ValueError("it is empty")
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be a date or a time, was {value!r} ({error}); write 2026-01-31.") from None
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    return stamp + pd.Timedelta(days=1) if end_of_day and len(str(value).strip()) == _DATE else stamp
