"""What returns alone say of accounts: reward, risk, tails and time below the peak.

Sharpe ratio, returns, volatility and drawdown come from ``trading.performance``, as everywhere. The other ratios are
empyrical's, annualised by the calendar of the bars. Both agree, and a test says so. Bars without a position count.
"""

from __future__ import annotations

import math
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats

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
TAIL = 0.05  # share of the returns that a value at risk leaves below it
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
    """Figures of each account's returns.

    Args:
        returns: Simple returns per bar, one column per account.
        days: Number of the day of each row, ``[T]``; rows that follow each other with the same number are one day.
        periods_per_year: Bars a year.
        contiguous: Whether the rows follow each other; drawdowns are None where they do not.

    Returns:
        Per account, None or not finite where undefined: ``sharpe``, ``annual_return`` (geometric),
        ``annual_volatility``, ``total_return``, ``max_drawdown`` (positive fraction, initial capital counts as a peak),
        ``drawdown_bars`` (longest time below a peak, ended or not), ``recovery_bars`` (from the deepest point back to
        its peak; None if it was not reached again), ``under_water`` (share of the bars below a peak), and the ratios of
        ``tail_metrics``.
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
    other = values[:, returns.columns.get_loc(REFERENCE)] if REFERENCE in returns.columns else None
    found = {}
    for index, account in enumerate(returns.columns):
        known = {name: column[index] for name, column in columns.items()}
        reference = None if account == REFERENCE else other
        tails = tail_metrics(values[:, index], daily[:, index], reference, periods_per_year)
        deepest = known["max_drawdown"]
        tails["calmar"] = known["annual_return"] / deepest if enough and deepest else None
        found[str(account)] = known | tails
    return found


def tail_metrics(
    returns: Floats, daily: Floats, reference: Floats | None, periods_per_year: float
) -> dict[str, float | None]:
    """Ratios and tails of one account's returns.

    Args:
        returns: Simple returns per bar, ``[T]``.
        daily: The same by day.
        reference: Returns that the information ratio is measured against, ``[T]``; None is none.
        periods_per_year: Bars a year.

    Returns:
        ``sortino`` (mean over downside deviation from zero, annualised), ``calmar`` (None, see ``return_metrics``),
        ``omega`` (sum of gains / sum of losses), ``tail_ratio`` (size of the 95 % quantile / size of the 5 % one),
        ``skew``, ``kurtosis`` (in excess of the normal one), ``information_ratio`` (mean over deviation of the
        difference to ``reference``, annualised), ``value_at_risk`` and ``conditional_value_at_risk`` (loss of a bar
        that 95 % of the bars stay above, and mean loss of the bars beyond; positive fractions of equity), and both of
        days. None for returns that do not vary, and with fewer than two.
    """
    figures: dict[str, float | None] = dict.fromkeys(EMPIRICAL)
    if len(returns) < MIN_BARS or not varies(returns):
        return figures
    with np.errstate(divide="ignore", invalid="ignore"):
        figures |= {
            "sortino": float(empyrical.sortino_ratio(returns, annualization=periods_per_year)),
            "omega": float(empyrical.omega_ratio(returns)),
            "tail_ratio": float(empyrical.tail_ratio(returns)),
            "skew": float(stats.skew(returns)),
            "kurtosis": float(stats.kurtosis(returns)),
        }
    if reference is not None:
        figures["information_ratio"] = information_ratio(returns, reference, periods_per_year)
    for prefix, sample in (("", returns), ("daily_", daily)):
        figures[f"{prefix}value_at_risk"] = -float(empyrical.value_at_risk(sample, TAIL))
        figures[f"{prefix}conditional_value_at_risk"] = -float(empyrical.conditional_value_at_risk(sample, TAIL))
    return figures


def information_ratio(returns: Floats, reference: Floats, periods_per_year: float) -> float | None:
    """Mean over deviation of ``returns - reference`` ``[T]``, annualised; None where the difference does not vary."""
    if len(returns) < MIN_BARS or not varies(returns - reference):
        return None
    return float(empyrical.excess_sharpe(returns, reference)) * math.sqrt(periods_per_year)


def varies(returns: Floats) -> bool:
    """Whether returns vary by more than rounding, as ``sharpe_ratio`` asks."""
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
