"""Proportion-of-failures test of value at risk.

Kupiec 1995, Techniques for Verifying the Accuracy of Risk Measurement Models, Journal of Derivatives 3.
"""

from __future__ import annotations

import scipy
from scipy.special import xlogy


def likelihood_ratio(observations: int, exceedances: int, rate: float) -> float:
    """Likelihood ratio of the observed share of exceedances against ``rate``: 2 log(L(observed) / L(rate)).

    Asymptotically chi-squared with one degree of freedom if exceedances are independent and come at ``rate``.

    Args:
        observations: Number of forecasts that were tested, above 0.
        exceedances: How many losses exceeded them.
        rate: Probability of an exceedance by the forecasts, in (0, 1).

    Raises:
        ValueError: If a count or the rate is out of range.
    """
    problems = []
    if observations < 1:
        problems.append(f"`observations` must be at least 1, was {observations}; test more forecasts")
    if not 0 <= exceedances <= max(observations, 0):
        problems.append(f"`exceedances` must lie in [0, {observations}], was {exceedances}; count again")
    if not 0.0 < rate < 1.0:
        problems.append(f"`rate` must lie in (0, 1), was {rate}; give 1 less the confidence")
    if problems:
        raise ValueError("; ".join(problems) + ".")
    kept, share = observations - exceedances, exceedances / observations
    observed = xlogy(kept, 1.0 - share) + xlogy(exceedances, share)  # 0 log 0 is 0
    expected = xlogy(kept, 1.0 - rate) + xlogy(exceedances, rate)
    return max(float(2.0 * (observed - expected)), 0.0)


def kupiec_p(observations: int, exceedances: int, rate: float) -> float:
    """Probability of a share of exceedances at least as far from ``rate``; arguments as in ``likelihood_ratio``."""
    return float(scipy.stats.chi2.sf(likelihood_ratio(observations, exceedances, rate), df=1))
