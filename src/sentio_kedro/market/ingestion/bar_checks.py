"""Checks of a frame of bars, all reported at once: what is refused, repaired, or only told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.checks.columns import (
    COLUMNS,
    OPTIONAL_COLUMNS,
    PRICE_COLUMNS,
    VALUE_COLUMNS,
    named_columns,
)
from sentio_kedro.market.ingestion.checks.keys import (
    Delivered,
    Mask,
    Order,
    sort_rows,
    symbol_problems,
    timestamp_problems,
)
from sentio_kedro.market.ingestion.checks.lengths import length_problems
from sentio_kedro.market.ingestion.checks.moves import move_problems
from sentio_kedro.market.ingestion.checks.values import (
    Values,
    delivered_values,
    numbers,
    tidied,
    value_problems,
)
from sentio_kedro.market.ingestion.problems import BarsError, Problem

__all__ = [
    "COLUMNS",
    "OPTIONAL_COLUMNS",
    "PRICE_COLUMNS",
    "VALUE_COLUMNS",
    "BarsError",
    "ExaminedBars",
    "check_bars",
    "examine_bars",
    "numbers",
]


@dataclass(frozen=True, eq=False)
class ExaminedBars:
    """Delivered bars and all that was found about them.

    Attributes:
        frame: The bars as they are used: columns under the project's names, sorted within each symbol, without missing
            and repeated rows; values are as delivered but for rounding. Null if the bars are refused.
        problems: All problems: refused, repaired and told.
    """

    frame: pd.DataFrame | None
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> pd.DataFrame:
        """The bars as they are used.

        Raises:
            BarsError: If they are refused.
        """
        if self.frame is None:
            raise BarsError(self.refused)
        return self.frame

    @property
    def refused(self) -> tuple[Problem, ...]:
        """The problems for which the bars cannot be used."""
        return tuple(problem for problem in self.problems if problem.severity == "refused")

    @property
    def findings(self) -> tuple[Problem, ...]:
        """What was repaired or is only told."""
        return tuple(problem for problem in self.problems if problem.severity != "refused")


def examine_bars(delivered: Any, parameters: IngestionParameters | None = None) -> ExaminedBars:
    """Look at bars, repair what moves no return, and say what else is wrong; nothing is raised.

    Args:
        delivered: What a dataset of the catalog returned: a long frame with ``timestamp, symbol, open, high, low,
            close, volume`` and optional columns, under names of any case.
        parameters: How bars are read; without them naive timestamps pass, since their zone may be configured.
    """
    try:
        frame = named_columns(delivered).reset_index(drop=True)
    except BarsError as error:
        return ExaminedBars(None, error.problems)
    bars, values = Delivered.of(frame), delivered_values(frame)
    problems = [*symbol_problems(bars), *timestamp_problems(bars, parameters)]
    of_values, blank = value_problems(bars, values)
    keyed = (bars.place >= 0) & ~np.isnat(bars.stamps) & ~blank
    own = () if parameters is None else [name for name in parameters.columns if name in frame]
    order, of_order = sort_rows(bars, keyed, values | {name: numbers(frame[name]) for name in own})
    problems += of_order + of_values
    if blank.all():
        problems.append(Problem("there must be bars: no row has prices", len(blank), ()))
    if not any(problem.severity == "refused" for problem in problems):
        problems += length_problems(bars, order, values, parameters)
        problems += move_problems(bars, order, values)
    if any(problem.severity == "refused" for problem in problems):
        return ExaminedBars(None, tuple(problems))
    return ExaminedBars(_cleaned(bars, order, values, blank), tuple(problems))


def _cleaned(bars: Delivered, order: Order, values: Values, blank: Mask) -> pd.DataFrame:
    """Return the frame without missing and repeated rows, sorted within each symbol, with tidy values."""
    frame = bars.frame
    changed = {name: column for name, column in tidied(values).items() if column is not values[name]}
    frame = frame.assign(**changed) if changed else frame
    if order.moved.size:
        return frame.take(order.rows).reset_index(drop=True)
    if order.dropped.size or blank.any():
        return frame.take(np.sort(order.rows)).reset_index(drop=True)
    return frame


def check_bars(delivered: Any, parameters: IngestionParameters | None = None) -> None:
    """Refuse bars that cannot be used; see ``examine_bars``.

    Raises:
        BarsError: With every problem, its symbol, timestamp, value and remedy.
    """
    _ = examine_bars(delivered, parameters).usable
