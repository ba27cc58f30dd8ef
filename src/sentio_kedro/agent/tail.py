"""The constraint on the worst episodes: where the tail begins, what it costs, and whom it is charged to.

CVaR of an episode's log return G must not fall below ``-limit``. By Rockafellar and Uryasev's form that is a bound on
E[(v - G)+] / alpha with v the alpha-quantile of G; a dual variable prices it (Chow et al., Risk-Constrained
Reinforcement Learning with Percentile Risk Criteria, JMLR 2018).

Every decision of an episode is charged with the episode's own shortfall. With all-action advantages the shortfall after
each action is known, since the path is; with sampled ones the other accounts on the same path are the baseline.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.losses import dual_step, tail_of
from sentio_kedro.config import TailParameters

LEAST_RETURN = 1e-3  # what an episode leaves of equity at least, so that its logarithm is finite


class TailState(NamedTuple):
    """What prices the tail in one update, 0-d tensors.

    Attributes:
        threshold: v, log return at which the tail begins.
        dual: Price of a unit of the tail's mean.
        tail: CVaR of the pooled episodes, log return.
    """

    threshold: Tensor
    dual: Tensor
    tail: Tensor


class TailMonitor:
    """Pools recent episodes and learns the dual variable.

    Attributes:
        pool: ``[n]`` log returns of the latest episodes, at most ``pool`` of them.
        dual: 0-d.
    """

    def __init__(self, parameters: TailParameters, like: Tensor) -> None:
        """Start with an empty pool and without a price."""
        self.parameters = parameters
        self.pool = like.new_empty(0)
        self.dual = like.new_zeros(())

    def price(self) -> TailState | None:
        """Price of the tail for the next update; None until enough episodes are pooled, or if the limit is off."""
        if self.parameters.limit is None or len(self.pool) < self.parameters.pool:
            return None
        threshold, tail = tail_of(self.pool, self.parameters.alpha)
        return TailState(threshold, self.dual, tail)

    def observe(self, outcomes: Tensor) -> None:
        """Pool the log returns ``[n]`` of finished episodes and move the dual variable."""
        limit = self.parameters.limit
        if limit is None:
            return
        self.pool = torch.cat([self.pool, outcomes.detach().flatten()])[-self.parameters.pool :]
        if len(self.pool) == self.parameters.pool:
            _, tail = tail_of(self.pool, self.parameters.alpha)
            self.dual = dual_step(self.dual, (-limit - tail) / limit, self.parameters.step, self.parameters.most)


def log_growth(fractions: Tensor) -> Tensor:
    """Log returns ``[...]`` of steps that brought ``fractions`` of equity."""
    return (1.0 + fractions).clamp_min(LEAST_RETURN).log()


def shortfall_beyond(threshold: Tensor, outcomes: Tensor) -> Tensor:
    """(v - G)+ of episodes that returned ``outcomes`` ``[...]``."""
    return (threshold - outcomes).clamp_min(0.0)
