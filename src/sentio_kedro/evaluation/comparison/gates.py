"""Gates that a challenger must pass to become champion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sentio_kedro.config import PromotionParameters

Form = Literal["number", "percent", "milliseconds"]


USED_ROWS = (
    "So many make these rows no test any more: earn in the lockbox before other agents open it (`kedro run --pipeline "
    "lockbox`), or test on bars that fewer trials touched."
)


class Gate(NamedTuple):
    """A bound on one metric.

    Attributes:
        parameter: Name of the bound in the section ``promotion``; ``min_*`` or ``max_*``.
        metric: Name of the metric.
        title: Title of the metric in the report.
        form: Format of the metric.
        against_champion: The metric compares with the champion.
        strict: A metric at its bound fails.
        remedy: What to do if it fails, a sentence; empty if that is plain.
    """

    parameter: str
    metric: str
    title: str
    form: Form
    against_champion: bool = False
    strict: bool = False
    remedy: str = ""


GATES = (
    Gate("min_deflated_sharpe", "deflated_sharpe", "Deflated Sharpe ratio", "number"),
    Gate("max_overfitting", "overfitting", "Probability of backtest overfitting", "number", strict=True),
    Gate("max_trials", "trials", "Number of trials on the test rows", "number", remedy=USED_ROWS),
    Gate("max_drawdown", "drawdown", "Maximum drawdown", "percent"),
    Gate("max_tail_loss", "tail_loss", "Mean loss of the worst 5 % of days", "percent"),
    Gate("max_turnover", "turnover", "Turnover a year, in equities", "number"),
    Gate("max_latency_ms", "latency_ms", "Latency of a decision, 99 % quantile", "milliseconds"),
    Gate("max_drift", "drift", "Drift of the features (population stability index)", "number"),
    Gate("min_sharpe_gain", "sharpe_gain", "Sharpe ratio beyond the champion's", "number", against_champion=True),
)
"""Every gate, in the order of the report."""


class GateResult(NamedTuple):
    """Result of a gate.

    Attributes:
        gate: Name of its bound.
        title: Title of the metric.
        bound: The bound.
        figure: Measured value of the metric; None if undefined.
        passed: The challenger passes.
        missed_by: Distance of the metric beyond the bound, 0 if a strict gate is met exactly; None if it passed or is
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
    metrics: Mapping[str, float | None],
    parameters: PromotionParameters,
    *,
    champion: bool,
    causes: Mapping[str, str] | None = None,
) -> list[GateResult]:
    """Apply every gate that is switched on.

    Args:
        metrics: Metrics by name; missing, None or not finite is undefined, and an undefined metric passes no gate.
        parameters: Bounds; a metric at its bound passes, unless the gate is strict.
        champion: There is a champion; without one, gates that compare with it do not apply.
        causes: Why metrics are undefined, by name: a sentence each, with a remedy.

    Returns:
        One result per gate that applies, in the order of ``GATES``.
    """
    causes = causes or {}
    return [
        _apply(gate, float(bound), metrics.get(gate.metric), causes.get(gate.metric))
        for gate in GATES
        if (champion or not gate.against_champion) and (bound := getattr(parameters, gate.parameter)) is not None
    ]


def _apply(gate: Gate, bound: float, value: float | None, cause: str | None) -> GateResult:
    lower = gate.parameter.startswith("min")
    side = ("above" if gate.strict else "at least") if lower else ("below" if gate.strict else "at most")
    required = f"{side} {format_bound(bound, gate.form)} is required"
    if value is None or not math.isfinite(value):
        why = f" {cause}" if cause else ""
        reason = (
            f"{gate.title} is undefined; {required}.{why} `promotion.{gate.parameter}: null` goes without this gate."
        )
        return GateResult(gate.parameter, gate.title, bound, None, False, None, reason)
    excess = bound - value if lower else value - bound
    if excess < 0.0 or (excess == 0.0 and not gate.strict):
        return GateResult(gate.parameter, gate.title, bound, value, True, None, "")
    by = f": {format_bound(excess, gate.form)} too {'little' if lower else 'much'}" if excess else ""
    reason = f"{gate.title} is {format_bound(value, gate.form)}; {required}{by} (`promotion.{gate.parameter}`)."
    return GateResult(gate.parameter, gate.title, bound, value, False, excess, f"{reason} {gate.remedy}".strip())


def format_bound(value: float, form: Form) -> str:
    """Format a metric with four significant digits."""
    if form == "percent":
        return f"{100.0 * value:.4g} %"
    return f"{value:.4g} ms" if form == "milliseconds" else f"{value:.4g}"


def failures(results: Sequence[GateResult]) -> list[str]:
    """Reasons of the gates that failed."""
    return [result.reason for result in results if not result.passed]


def switched_off(parameters: PromotionParameters) -> list[str]:
    """Names of the gates that are switched off."""
    return [gate.parameter for gate in GATES if getattr(parameters, gate.parameter) is None]
