"""Hansen's test of superior predictive ability (SPA) of an agent over a baseline.

Hansen 2005, A Test for Superior Predictive Ability, Journal of Business and Economic Statistics 23, as the library
``arch`` computes it.
"""

from __future__ import annotations

import numpy as np

from sentio_kedro.evaluation.statistics.bootstrap import Floats, automatic_block

ROUNDING = 1e-9  # share of the agent's root mean square return up to which a difference is rounding
RESAMPLES = 1_000  # arch draws them one by one; a p-value of 0.05 has an error of 0.007
MAX_OBSERVATIONS = 2_000  # longer series are summed over consecutive bars: arch's time grows with the square


def superiority(
    agent: Floats,
    baseline: Floats,
    others: Floats | None = None,
    *,
    samples: int = RESAMPLES,
    mean_block: float | None = None,
    seed: int = 0,
) -> float:
    """Test whether ``agent`` earns more than ``baseline``, as one of all tried models.

    The null hypothesis says that no model has a higher mean return than the baseline. Each difference is scaled by its
    deviation, so that leverage does not count. Models that earned more than the agent are lowered to its own mean,
    which leaves the distribution under the null as it is: the p-value is the agent's, not theirs.

    Args:
        agent: Simple returns per bar, [T].
        baseline: Those of the baseline on the same rows, [T].
        others: Those of the other tried models, [T, M]; None if there are none.
        samples: Number of resamples of the stationary bootstrap.
        mean_block: Mean block length in bars; None takes ``automatic_block`` of the agent's differences.
        seed: Seed of the resamples.

    Returns:
        The consistent p-value.

    Raises:
        ValueError: If the returns are not on the same rows.
    """
    from arch.bootstrap import SPA  # noqa: PLC0415 - takes a second: statsmodels, matplotlib

    models = agent[:, None] if others is None else np.column_stack([agent, others])
    if len(baseline) != len(models):
        raise ValueError(f"`baseline` must have the rows of `agent`, {len(models)}, had {len(baseline)}.")
    differences = models - baseline[:, None]
    deviation = differences.std(axis=0)
    varies = deviation > ROUNDING * np.sqrt(np.mean(agent**2))
    if not varies[0]:
        return 1.0  # the agent is the baseline
    scaled = differences[:, varies] / deviation[varies]
    scaled -= np.maximum(scaled.mean(axis=0) - scaled[:, 0].mean(), 0.0)
    block = automatic_block(scaled[:, 0]) if mean_block is None else mean_block
    bars = -(-len(scaled) // MAX_OBSERVATIONS)  # summed into one observation
    observed = np.add.reduceat(scaled, np.arange(0, len(scaled), bars), axis=0)
    test = SPA(np.zeros(len(observed)), -observed, max(1, round(block / bars)), samples, seed=seed)
    test.compute()
    return float(test.pvalues["consistent"])
