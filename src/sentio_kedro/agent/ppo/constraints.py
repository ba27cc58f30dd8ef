"""The constraints on the worst episodes: where the tail begins, what it costs, and whom it is charged to.

An outcome G of an episode is the better the larger it is: its log return, or minus its maximum drawdown. CVaR of G
must not fall below ``-limit``. By Rockafellar and Uryasev's form that is a bound on E[(v - G)+] / alpha with v the
alpha-quantile of G; a dual variable prices it (Chow et al., Risk-Constrained Reinforcement Learning with Percentile
Risk Criteria, JMLR 2018).

Every decision of an episode is charged with the episode's own shortfall. With all-action advantages the shortfall after
each action is known, since the path is; with sampled ones the other accounts on the same path are the baseline.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.ppo.losses import dual_step, tail_of
from sentio_kedro.config import EpisodeLimit, TrainingParameters
from sentio_kedro.trading.performance import log_drawdown

MIN_RETURN = 1e-3  # what an episode leaves of equity at least, so that its logarithm is finite


class TailState(NamedTuple):
    """What prices the tail in one update, 0-d tensors.

    Attributes:
        threshold: v, outcome at which the tail begins.
        dual: Price of a unit of the tail's mean.
        tail: CVaR of the pooled outcomes.
    """

    threshold: Tensor
    dual: Tensor
    tail: Tensor

    def charge(self, outcomes: Tensor, alpha: float) -> Tensor:
        """Charge for episodes with ``outcomes`` ``[...]``: dual / alpha times their shortfall beyond the threshold."""
        return self.dual / alpha * shortfall_beyond(self.threshold, outcomes)


class EpisodeOutcomes(NamedTuple):
    """What became of episodes, each ``[...]``.

    Attributes:
        growth: Log return.
        drawdown: Maximum drawdown, log of peak over trough, at least 0.
    """

    growth: Tensor
    drawdown: Tensor


class Prices(NamedTuple):
    """What prices each constraint in one update; None charges nothing for it.

    Attributes:
        tail: On the log return of an episode.
        drawdown: On minus its maximum drawdown.
    """

    tail: TailState | None = None
    drawdown: TailState | None = None

    def charge(self, outcomes: EpisodeOutcomes, parameters: TrainingParameters) -> Tensor | None:
        """Charge for what became of episodes ``[...]``, log return; None where nothing is priced."""
        charges = []
        if self.tail is not None:
            charges.append(self.tail.charge(outcomes.growth, parameters.tail.alpha))
        if self.drawdown is not None:
            charges.append(self.drawdown.charge(-outcomes.drawdown, parameters.drawdown.alpha))
        return sum(charges[1:], charges[0]) if charges else None


class TailMonitor:
    """Pools the outcomes of recent episodes and learns the dual variable of one constraint.

    Attributes:
        pool: ``[n]`` outcomes of the latest episodes, at most ``pool`` of them; the larger, the better.
        dual: 0-d.
    """

    def __init__(self, parameters: EpisodeLimit, like: Tensor) -> None:
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
        """Pool the outcomes ``[n]`` of finished episodes and move the dual variable."""
        limit = self.parameters.limit
        if limit is None:
            return
        self.pool = torch.cat([self.pool, outcomes.detach().flatten()])[-self.parameters.pool :]
        if len(self.pool) == self.parameters.pool:
            _, tail = tail_of(self.pool, self.parameters.alpha)
            self.dual = dual_step(self.dual, (-limit - tail) / limit, self.parameters.step, self.parameters.max_dual)


def observe_episodes(tail: TailMonitor, drawdown: TailMonitor, outcomes: EpisodeOutcomes) -> dict[str, float]:
    """Let the monitors see the episodes of an update.

    Returns:
        Of each limit that is on the mean of the worst outcomes and its price: ``episode_tail`` (log return) and
        ``tail_price``, ``episode_drawdown`` (log of peak over trough) and ``drawdown_price``. NaN until enough are
        pooled.
    """
    row: dict[str, float] = {}
    if tail.parameters.limit is not None:
        tail.observe(outcomes.growth)
        price = tail.price()
        row |= {"episode_tail": math.nan if price is None else float(price.tail), "tail_price": float(tail.dual)}
    if drawdown.parameters.limit is not None:
        drawdown.observe(-outcomes.drawdown)
        price = drawdown.price()
        row["episode_drawdown"] = math.nan if price is None else -float(price.tail)
        row["drawdown_price"] = float(drawdown.dual)
    return row


def episodes(growth: Tensor) -> EpisodeOutcomes:
    """What became of episodes whose steps brought the log returns ``[S, ...]``; the equity at first is a peak."""
    path = torch.cat([torch.zeros_like(growth[:1]), growth.cumsum(0)])
    return EpisodeOutcomes(growth.sum(0), log_drawdown(path).amax(0))


def log_growth(fractions: Tensor) -> Tensor:
    """Log returns ``[...]`` of steps that brought ``fractions`` of equity."""
    return (1.0 + fractions).clamp_min(MIN_RETURN).log()


def shortfall_beyond(threshold: Tensor, outcomes: Tensor) -> Tensor:
    """(v - G)+ of episodes with ``outcomes`` ``[...]``."""
    return (threshold - outcomes).clamp_min(0.0)
