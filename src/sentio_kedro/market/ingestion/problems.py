"""Problems of bars as one readable text: all are counted, a few are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EXAMPLES = 10
FEW_EXAMPLES = 3  # of what is not refused
LONGEST_VALUE = 100  # characters

Severity = Literal["refused", "repaired", "told"]
"""The bars cannot be used; they are used after a repair that moves no return; they are used as they are."""


@dataclass(frozen=True)
class Problem:
    """One kind of problem and its occurrences.

    Attributes:
        rule: What must hold, and the remedy; of a repair, what was done.
        count: Number of occurrences.
        cases: Symbol, timestamp and value of the first of them.
        severity: What follows from it.
    """

    rule: str
    count: int
    cases: tuple[str, ...]
    severity: Severity = "refused"

    def lines(self) -> list[str]:
        """Return the rule, the cases and the number of those that are not shown, a line each."""
        more = [f"    ... and {self.count - len(self.cases)} more"] if self.count > len(self.cases) else []
        return [f"- {self.rule} ({self.count} case(s))", *(f"    {case}" for case in self.cases), *more]


class BarsError(ValueError):
    """The bars cannot be used; the message lists every kind of problem with examples.

    Attributes:
        problems: The problems by kind.
        subject: What has them.
    """

    subject = "bars have"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Render ``problems`` into one readable message."""
        self.problems = problems
        lines = [f"The {self.subject} {sum(problem.count for problem in problems)} problem(s):"]
        super().__init__("\n".join([*lines, *(line for problem in problems for line in problem.lines())]))


def listed(rule: str, cases: Sequence[str], severity: Severity = "refused") -> list[Problem]:
    """Return the problem of ``cases``, none if there are none."""
    return [Problem(rule, len(cases), tuple(cases[: _shown_cases(severity)]), severity)] if cases else []


def counted(
    rule: str, rows: NDArray[np.int64], case: Callable[[int], str], severity: Severity = "refused"
) -> list[Problem]:
    """Return the problem of ``rows``, none if there are none; ``case`` is asked about those that are shown alone."""
    cases = tuple(case(int(row)) for row in rows[: _shown_cases(severity)])
    return [Problem(rule, len(rows), cases, severity)] if len(rows) else []


def _shown_cases(severity: Severity) -> int:
    return EXAMPLES if severity == "refused" else FEW_EXAMPLES


def findings_text(findings: Iterable[Problem]) -> str:
    """Return what was repaired or only told as one readable text; empty if nothing was."""
    lines = [line for finding in findings for line in finding.lines()]
    return "\n".join(["The bars are used, but:", *lines]) if lines else ""


class UniverseError(BarsError):
    """The table of a dated universe cannot be used."""

    subject = "table `universe` has"


def shown(value: Any) -> str:
    """Return a value of a feed in full, as a person writes it; a text in quotes, and cut if it is very long."""
    if isinstance(value, date | np.datetime64):
        return "empty" if pd.isna(value) else str(value)
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is pd.NA:
        return "empty"
    text = repr(value).removesuffix(".0")
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... ({len(text)} characters)"
