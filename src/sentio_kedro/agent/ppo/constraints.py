"""Constraint on the worst episodes: its dual variable, and the penalty of an episode.

CVaR of an episode's log return G must not fall below ``-limit``. By Rockafellar and Uryasev's form that is a bound on
E[(v - G)+] / alpha with v the alpha-quantile of G. The constraint is relaxed with a dual variable (Chow et al.,
Risk-Constrained Reinforcement Learning with Percentile Risk Criteria, JMLR 2018).

Every decision of an episode pays the penalty of the episode's own shortfall. With all-action advantages the shortfall
after each action follows from the path; with sampled ones the other accounts on the same path are the baseline.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.ppo.losses import dual_step, tail_of
from sentio_kedro.config import TailParameters

MIN_RETURN = 1e-3  # least share of equity that a step leaves, so that its logarithm is finite


class TailState(NamedTuple):
    """Tail of the pooled episodes and its dual variable in one update, 0-d tensors.

    Attributes:
        threshold: v, log return at which the tail begins.
        dual: Dual variable of the constraint.
        tail: CVaR of the pooled log returns.
    """

    threshold: Tensor
    dual: Tensor
    tail: Tensor

    def penalty(self, log_returns: Tensor, alpha: float) -> Tensor:
        """Penalty of episodes with ``log_returns`` ``[...]``: dual / alpha times their shortfall (v - G)+."""
        return self.dual / alpha * (self.threshold - log_returns).clamp_min(0.0)


class TailMonitor:
    """Pool of recent episodes, from which the dual variable of the constraint is learned.

    Attributes:
        pool: ``[n]`` log returns of the latest episodes, at most ``parameters.pool`` of them.
        dual: 0-d.
    """

    def __init__(self, parameters: TailParameters, like: Tensor) -> None:
        """Start with an empty pool and a dual variable of 0, on the device and in the dtype of ``like``."""
        self.parameters = parameters
        self.pool = like.new_empty(0)
        self.dual = like.new_zeros(())

    def state(self) -> TailState | None:
        """Tail for the next update; None until the pool is full, or if the limit is off."""
        if self.parameters.limit is None or len(self.pool) < self.parameters.pool:
            return None
        threshold, tail = tail_of(self.pool, self.parameters.alpha)
        return TailState(threshold, self.dual, tail)

    def observe(self, log_returns: Tensor) -> dict[str, float]:
        """Pool the log returns ``[n]`` of finished episodes and move the dual variable.

        Returns:
            ``episode_tail``, the mean of the worst log returns (NaN until the pool is full), and ``tail_dual``; empty
            if the limit is off.
        """
        limit = self.parameters.limit
        if limit is None:
            return {}
        self.pool = torch.cat([self.pool, log_returns.detach().flatten()])[-self.parameters.pool :]
        if len(self.pool) < self.parameters.pool:
            return {"episode_tail": math.nan, "tail_dual": float(self.dual)}
        _, tail = tail_of(self.pool, self.parameters.alpha)
        self.dual = dual_step(self.dual, (-limit - tail) / limit, self.parameters.step, self.parameters.max_dual)
        return {"episode_tail": float(tail), "tail_dual": float(self.dual)}


def log_growth(fractions: Tensor) -> Tensor:
    """Log returns ``[...]`` of steps that earned ``fractions`` of equity."""
    return (1.0 + fractions).clamp_min(MIN_RETURN).log()
