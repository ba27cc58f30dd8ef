"""Gates that a challenger must pass to become champion: pure, typed, and silent about nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sentio_kedro.config import PromotionParameters

Form = Literal["number", "percent", "milliseconds"]


class Gate(NamedTuple):
    """One gate.

    Attributes:
        parameter: Name of its bound in the section ``promotion``; it begins with ``least`` or ``most``.
        figure: Name of the figure that it judges.
        title: What the figure is, for people.
        form: How it is written.
        against_champion: Whether the figure needs a champion to compare with.
        strict: Whether a figure at its bound fails, as ``skill`` has it.
    """

    parameter: str
    figure: str
    title: str
    form: Form
    against_champion: bool = False
    strict: bool = False


GATES = (
    Gate("min_deflated_sharpe", "deflated_sharpe", "Deflated Sharpe ratio", "number"),
    Gate("max_overfitting", "overfitting", "Probability of backtest overfitting", "number", strict=True),
    Gate("max_drawdown", "drawdown", "Maximum drawdown", "percent"),
    Gate("max_tail_loss", "tail_loss", "Mean loss of the worst 5 % of days", "percent"),
    Gate("max_turnover", "turnover", "Turnover a year, in equities", "number"),
    Gate("max_latency_ms", "latency_ms", "Latency of a decision, 99 % quantile", "milliseconds"),
    Gate("max_drift", "drift", "Drift of the features (population stability index)", "number"),
    Gate("min_sharpe_gain", "sharpe_gain", "Sharpe ratio beyond the champion's", "number", against_champion=True),
)
"""Every gate, in the order in which they are told."""


class GateResult(NamedTuple):
    """What a gate says.

    Attributes:
        gate: Name of its bound.
        title: What was judged.
        bound: The bound.
        figure: What was measured; None if undefined.
        passed: Whether it lets the challenger through.
        missed_by: How far the figure lies beyond the bound, 0 if it must not reach it and did; None if it passed or is
            undefined.
        reason: Why it failed, one sentence; empty if it passed.
    """

    gate: str
    title: str
    bound: float
    figure: float | None
    passed: bool
    missed_by: float | None
    reason: str


def apply_gates(
    figures: Mapping[str, float | None],
    parameters: PromotionParameters,
    *,
    champion: bool,
    causes: Mapping[str, str] | None = None,
) -> list[GateResult]:
    """Ask every gate that is switched on.

    Args:
        figures: Figures by name; missing, None or not finite is undefined, and an undefined figure passes no gate.
        parameters: Bounds; a figure at its bound passes, unless the gate is strict.
        champion: Whether there is a champion; without one, gates that compare with it are not asked.
        causes: Why figures are undefined, by their names, as far as known: a sentence each, with what to do.

    Returns:
        One verdict per gate that was asked, in the order of ``GATES``.
    """
    asked = [gate for gate in GATES if champion or not gate.against_champion]
    bounds = {gate: getattr(parameters, gate.parameter) for gate in asked}
    known = causes or {}
    return [
        _ask(gate, float(bound), figures.get(gate.figure), known.get(gate.figure))
        for gate, bound in bounds.items()
        if bound is not None
    ]


def _ask(gate: Gate, bound: float, figure: float | None, cause: str | None) -> GateResult:
    least = gate.parameter.startswith("min")
    side = ("above" if gate.strict else "at least") if least else ("below" if gate.strict else "at most")
    allowed = f"{side} {written(bound, gate.form)} is asked for"
    if figure is None or not math.isfinite(figure):
        why = f" {cause}" if cause else ""
        reason = (
            f"{gate.title} is undefined; {allowed}.{why} `promotion.{gate.parameter}: null` goes without this gate."
        )
        return GateResult(gate.parameter, gate.title, bound, None, False, None, reason)
    missed = bound - figure if least else figure - bound
    if missed < 0.0 or (missed == 0.0 and not gate.strict):
        return GateResult(gate.parameter, gate.title, bound, figure, True, None, "")
    by = f": {written(missed, gate.form)} too {'little' if least else 'much'}" if missed else ""
    reason = f"{gate.title} is {written(figure, gate.form)}; {allowed}{by} (`promotion.{gate.parameter}`)."
    return GateResult(gate.parameter, gate.title, bound, figure, False, missed, reason)


def written(value: float, form: Form) -> str:
    """Write a figure for people, with enough digits that two that differ look different."""
    if form == "percent":
        return f"{100.0 * value:.4g} %"
    return f"{value:.4g} ms" if form == "milliseconds" else f"{value:.4g}"


def failures(gate_results: Sequence[GateResult]) -> list[str]:
    """Reasons of the gates that failed."""
    return [verdict.reason for verdict in gate_results if not verdict.passed]


def switched_off(parameters: PromotionParameters) -> list[str]:
    """Names of the gates that are not asked, which a record of the decision must tell."""
    return [gate.parameter for gate in GATES if getattr(parameters, gate.parameter) is None]
