"""Problems of bars as one readable text: all are counted, a few are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

EXAMPLES = 10
LONGEST_VALUE = 100  # characters


@dataclass(frozen=True)
class Problem:
    """One kind of problem and its occurrences.

    Attributes:
        rule: What must hold, and the remedy.
        count: Number of occurrences.
        cases: Symbol, timestamp and value of the first ``EXAMPLES`` of them.
    """

    rule: str
    count: int
    cases: tuple[str, ...]


class BarsError(ValueError):
    """The bars cannot be used; the message lists every kind of problem with examples.

    Attributes:
        problems: The problems by kind.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Render ``problems`` into one readable message."""
        self.problems = problems
        lines = [f"The bars have {sum(problem.count for problem in problems)} problem(s):"]
        for problem in problems:
            lines.append(f"- {problem.rule} ({problem.count} case(s))")
            lines.extend(f"    {case}" for case in problem.cases)
            if problem.count > len(problem.cases):
                lines.append(f"    ... and {problem.count - len(problem.cases)} more")
        super().__init__("\n".join(lines))


def shown(value: Any) -> str:
    """Return a value of a feed in full, as a person writes it; a text in quotes, and cut if it is very long."""
    if isinstance(value, date | np.datetime64):
        return "empty" if pd.isna(value) else str(value)
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is pd.NA:
        return "empty"
    text = repr(value).removesuffix(".0")
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... ({len(text)} characters)"
