"""Constraint on the worst episodes: what risk costs at a price, and the price that meets the limit.

CVaR of an episode's log return G must not fall below ``-limit``. By Rockafellar and Uryasev's form (Journal of Risk,
2000) CVaR = max over v of v - E[(v - G)+] / alpha. Relaxed with a multiplier it does not settle: CVaR and profit both
grow in proportion to a position's size, so that at any multiplier all or nothing is best. Here v and the law of G are
those of an episode that just meets the limit. The expected shortfall that a step adds to such an episode is convex in
what the step earns, so positions in between are best at prices in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.ppo.losses import quantile_levels, tail_of
from sentio_kedro.config import TailParameters

MIN_RETURN = 1e-3  # least share of equity that a step leaves, so that its logarithm is finite
MIN_DEVIATION = 1e-6  # of log returns, below which accounts are flat and say nothing of the shape of their law
POOL = 4096  # recent episodes that give the shape of their law
FIRST_PRICE, MAX_PRICE = 1.0, 64.0  # where the search begins, and where it gives up
HALVINGS = 7  # of the interval in which the price lies: to 1 % of its upper end


class TailState(NamedTuple):
    """What an update needs to know about the episodes before.

    Attributes:
        price: Price of risk, 0-d.
        shape: ``[n]`` log returns of recent greedy episodes, less their update's mean, in units of its deviation.
    """

    price: Tensor
    shape: Tensor

    def observed(self, outcomes: Tensor) -> TailState:
        """Add the shape of ``outcomes`` ``[...]`` to the latest ``POOL``; flat accounts add nothing."""
        if float(outcomes.std()) < MIN_DEVIATION:
            return self
        standard = (outcomes.flatten() - outcomes.mean()) / outcomes.std()
        return self._replace(shape=torch.cat([self.shape, standard])[-POOL:])

    def tail(self, outcomes: Tensor, alpha: float) -> Tensor:
        """CVaR of a law of this shape with mean and deviation of ``outcomes`` ``[...]``, 0-d.

        An update has some dozens of independent episodes, of which one or two are the worst; their own mean would be
        biased and vary far more than this does.
        """
        return outcomes.mean() + outcomes.std() * tail_of(self.shape, alpha)[1]

    def shortfall_added(self, gains: Tensor, parameters: TailParameters) -> Tensor:
        """Expected shortfall / alpha that ``gains`` ``[...]`` add to an episode that meets the limit ``[...]``.

        Less its slope at 0, which is the gains' own mean and no risk: convex, 0 at 0, never negative.

        Args:
            gains: What steps earned, fraction of equity.
            parameters: Limit and share of the worst.
        """
        if parameters.limit is None:
            return torch.zeros_like(gains)
        ranked = self.shape.sort().values * (parameters.limit / -tail_of(self.shape, parameters.alpha)[1])
        threshold = tail_of(ranked, parameters.alpha)[0]
        total = torch.cat([ranked.new_zeros(1), ranked.cumsum(0)])

        def shortfall(gain: Tensor) -> Tensor:
            below = torch.searchsorted(ranked, threshold - gain)  # outcomes that end below the threshold
            return (threshold - gain) * below - total[below]

        slope = (ranked < threshold).sum()
        scale = len(ranked) * parameters.alpha
        return (shortfall(gains) - shortfall(torch.zeros_like(gains)) + slope * gains) / scale


class TailFound(NamedTuple):
    """What an update found out about its greedy episodes.

    Attributes:
        price: Price at which they meet the limit, 0-d.
        tail: Their CVaR at the price before, 0-d.
        state: With their shape.
    """

    price: Tensor
    tail: Tensor
    state: TailState


def first_tail(like: Tensor) -> TailState:
    """State before the first update, on the device and in the dtype of ``like``: price 0, normal shape."""
    normal = torch.special.ndtri(quantile_levels(POOL, like))
    return TailState(like.new_zeros(()), normal)


def next_tail(found: TailFound, updates: int) -> TailState:
    """State for the next update, after ``updates`` of them.

    The price is a mean of those found so far, the later ones weighing more: one update sees few episodes.
    """
    price = found.state.price
    return found.state._replace(price=price + 2.0 / (updates + 2.0) * (found.price - price))


def bisected_price(met: Callable[[float], bool]) -> float:
    """Smallest price at which a limit is ``met``, to 1 %; ``MAX_PRICE`` if it is not met below."""
    if met(0.0):
        return 0.0
    low, high = 0.0, FIRST_PRICE
    while high < MAX_PRICE and not met(high):
        low, high = high, 2.0 * high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if met(middle) else (middle, high)
    return high


def log_growth(fractions: Tensor) -> Tensor:
    """Log returns ``[...]`` of steps that earned ``fractions`` of equity."""
    return (1.0 + fractions).clamp_min(MIN_RETURN).log()
