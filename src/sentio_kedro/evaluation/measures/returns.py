"""Metrics of returns: reward, risk, tails and drawdowns.

Sharpe ratio, returns, volatility and drawdown come from ``trading.performance``, the other ratios from empyrical,
annualised by the calendar of the bars. Bars without a position count as returns of zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import scipy
import torch
from numpy.typing import NDArray

from sentio_kedro.trading.performance import (
    MIN_BARS,
    STILL,
    annual_return,
    annual_volatility,
    drawdown,
    drawdown_periods,
    sharpe_ratio,
)

Floats = NDArray[np.float64]
TAIL = 0.05  # probability of a loss beyond the value at risk
REFERENCE = "equal_weight"  # account that information ratios are measured against
ANNUALISED = {"sharpe": sharpe_ratio, "annual_return": annual_return, "annual_volatility": annual_volatility}
DRAWDOWNS = ("max_drawdown", "drawdown_bars", "recovery_bars", "under_water")
EMPIRICAL = (
    *("sortino", "calmar", "omega", "tail_ratio", "skew", "kurtosis", "information_ratio"),
    *("value_at_risk", "conditional_value_at_risk", "daily_value_at_risk", "daily_conditional_value_at_risk"),
)


def return_metrics(
    returns: pd.DataFrame, days: NDArray[np.int64], periods_per_year: float, *, contiguous: bool = True
) -> dict[str, dict[str, Any]]:
    """Metrics of each account's returns.

    Args:
        returns: Simple returns per bar, one column per account.
        days: Day number of each row, ``[T]``; consecutive rows with the same number are one day.
        periods_per_year: Bars a year.
        contiguous: Whether the rows are consecutive; if not, drawdown metrics are None.

    Returns:
        Per account, None or not finite where undefined: ``sharpe``, ``annual_return`` (geometric),
        ``annual_volatility``, ``total_return``, ``max_drawdown`` (positive fraction, of all time: the peak is never
        reset, and initial capital counts as one), ``drawdown_bars`` (longest time below a peak), ``recovery_bars``
        (from the deepest point back to its peak; None if not recovered), ``under_water`` (share of bars below a peak),
        and the metrics of ``tail_metrics``.
    """
    values = returns.to_numpy(dtype=np.float64, copy=True)  # [T, N]
    tensor, enough = torch.from_numpy(values), len(values) >= MIN_BARS
    columns: dict[str, list[Any]] = {
        name: measure(tensor, periods_per_year).tolist() if enough else [None] * values.shape[1]
        for name, measure in ANNUALISED.items()
    }
    columns["total_return"] = (torch.prod(1.0 + tensor.clamp(min=-1.0), dim=0) - 1.0).tolist()
    columns |= _drawdown_columns(tensor) if contiguous else {name: [None] * values.shape[1] for name in DRAWDOWNS}
    daily = daily_returns(values, days)
    benchmark = values[:, returns.columns.get_loc(REFERENCE)] if REFERENCE in returns.columns else None
    metrics = {}
    for index, account in enumerate(returns.columns):
        entry = {name: column[index] for name, column in columns.items()}
        reference = None if account == REFERENCE else benchmark
        entry |= tail_metrics(values[:, index], daily[:, index], reference, periods_per_year)
        depth = entry["max_drawdown"]
        entry["calmar"] = entry["annual_return"] / depth if enough and depth else None
        metrics[str(account)] = entry
    return metrics


def tail_metrics(
    returns: Floats, daily: Floats, reference: Floats | None, periods_per_year: float
) -> dict[str, float | None]:
    """Risk ratios and tail metrics of one account's returns.

    Args:
        returns: Simple returns per bar, ``[T]``.
        daily: The same by day.
        reference: Benchmark returns of the information ratio, ``[T]``; None gives no ratio.
        periods_per_year: Bars a year.

    Returns:
        ``sortino`` (annualised, downside deviation from zero), ``calmar`` (None here, see ``return_metrics``),
        ``omega`` (sum of gains / sum of losses), ``tail_ratio`` (95 % quantile / absolute 5 % quantile), ``skew``,
        ``kurtosis`` (excess), ``information_ratio`` (against ``reference``), ``value_at_risk`` and
        ``conditional_value_at_risk`` at 95 % (losses as positive fractions of equity), and both of daily returns. None
        for constant returns and for fewer than two.
    """
    import empyrical  # noqa: PLC0415 - half a second of scipy.stats, before any figure is needed

    metrics: dict[str, float | None] = dict.fromkeys(EMPIRICAL)
    if len(returns) < MIN_BARS or not varies(returns):
        return metrics
    with np.errstate(divide="ignore", invalid="ignore"):
        metrics |= {
            "sortino": float(empyrical.sortino_ratio(returns, annualization=periods_per_year)),
            "omega": float(empyrical.omega_ratio(returns)),
            "tail_ratio": float(empyrical.tail_ratio(returns)),
            "skew": float(scipy.stats.skew(returns)),
            "kurtosis": float(scipy.stats.kurtosis(returns)),
        }
    if reference is not None:
        metrics["information_ratio"] = information_ratio(returns, reference, periods_per_year)
    for prefix, sample in (("", returns), ("daily_", daily)):
        metrics[f"{prefix}value_at_risk"] = -float(empyrical.value_at_risk(sample, TAIL))
        metrics[f"{prefix}conditional_value_at_risk"] = -float(empyrical.conditional_value_at_risk(sample, TAIL))
    return metrics


def information_ratio(returns: Floats, reference: Floats, periods_per_year: float) -> float | None:
    """Annualised mean over standard deviation of ``returns - reference`` ``[T]``; None for a constant difference."""
    if len(returns) < MIN_BARS or not varies(returns - reference):
        return None
    import empyrical  # noqa: PLC0415 - as above

    return float(empyrical.excess_sharpe(returns, reference)) * math.sqrt(periods_per_year)


def varies(returns: Floats) -> bool:
    """Return whether returns vary by more than rounding, the condition of ``sharpe_ratio``."""
    return bool(returns.std(ddof=1) > STILL * abs(returns.mean()))


def daily_returns(returns: Floats, days: NDArray[np.int64]) -> Floats:
    """Compound returns ``[T, N]`` of the rows of each day: ``[D, N]``."""
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    grown: Floats = np.multiply.reduceat(1.0 + np.maximum(returns, -1.0), starts, axis=0) - 1.0
    return grown


def _drawdown_columns(returns: torch.Tensor) -> dict[str, list[Any]]:
    """Depth, length and recovery of drawdowns of returns ``[T, N]``, one value per account."""
    depth = drawdown(returns)  # [T, N]
    periods, accounts = drawdown_periods(returns), range(returns.shape[1])
    longest: list[int] = [0 for _ in accounts]
    deepest: list[float] = [0.0 for _ in accounts]
    recovery: list[int | None] = [None for _ in accounts]
    for account, start, bottom, last, loss, recovered in zip(*(part.tolist() for part in periods), strict=True):
        longest[account] = max(longest[account], last - start + 1)
        if loss > deepest[account]:
            deepest[account], recovery[account] = loss, last + 1 - bottom if recovered else None
    return {
        "max_drawdown": depth.amax(dim=0).tolist(),
        "drawdown_bars": longest,
        "recovery_bars": recovery,
        "under_water": (depth > 0.0).double().mean(dim=0).tolist(),
    }
