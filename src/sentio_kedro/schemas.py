"""Schemas that the catalog names by its ``validator:`` keys."""

from __future__ import annotations

from typing import Any

import pandera.pandas as pa
from kedro.validation import DataValidationError

from sentio_kedro.market.ingestion.bar_checks import check_bars
from sentio_kedro.market.ingestion.checks.columns import named_columns
from sentio_kedro.market.ingestion.checks.values import delivered_values
from sentio_kedro.market.ingestion.problems import BarsError, Problem
from sentio_kedro.market.ingestion.timestamps import parse_timestamps, read_epochs


class BarsSchemaError(BarsError, DataValidationError):
    """Problems of the bars as an error of the catalog, which lets it through with its own text, in full and once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Render ``problems``."""
        BarsError.__init__(self, problems)
        DataValidationError.__init__(self, *self.args)

    def __str__(self) -> str:
        return self.message


class Bars(pa.DataFrameModel):
    """Price bars of several assets, long format, any feed.

    Timestamps are ISO 8601 texts, datetimes or epochs; rows may be in any order.
    Naive timestamps pass here, since ``ingestion.timezone`` may name their zone. Other columns are allowed and ignored.

    Attributes:
        timestamp: Start or end of the bar (``ingestion.bar_label``).
        symbol: Name of the asset.
        open: First price, quote currency.
        high: Highest price.
        low: Lowest price.
        close: Last price.
        volume: Shares or coins traded.
        dividend: Cash per share, after the bar's split; empty counts as 0.
        split: New shares per old share; empty counts as 1.
        spread: Full quoted spread, fraction of the mid price; empty counts as 0.
        funding: Funding rate of the bar, paid by longs to shorts; empty counts as 0.
    """

    timestamp: Any
    symbol: Any
    open: float
    high: float
    low: float
    close: float
    volume: float
    dividend: float | None = pa.Field(nullable=True)
    split: float | None = pa.Field(nullable=True)
    spread: float | None = pa.Field(nullable=True)
    funding: float | None = pa.Field(nullable=True)

    class Config:
        """Numbers that arrive as text are read as numbers."""

        coerce = True
        strict = False

    @classmethod
    def validate(cls, check_obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Check all rules at once and return the bars with columns named, and timestamps and numbers parsed.

        No row is dropped, moved or repaired here, so that ingestion can count what it repairs.

        Args:
            check_obj: Bars as a feed delivers them.
            args: Of pandera, without effect: the rules are those of ``check_bars``.
            kwargs: The same.

        Raises:
            BarsSchemaError: With every problem, its symbol, timestamp, value and remedy.
        """
        try:
            check_bars(check_obj)
        except BarsError as error:
            raise BarsSchemaError(error.problems) from None
        frame = named_columns(check_obj)
        if read_epochs(frame["timestamp"]) is None:  # ingestion tells the unit of the others
            frame = frame.assign(timestamp=parse_timestamps(frame["timestamp"]))
        return frame.assign(**delivered_values(frame))
