"""Baselines: rules that any agent has to beat, walked through the same execution and paying the same costs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.agent.distributions import gumbel_noise, sample_actions
from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.action_masks import decode, level_tensor
from sentio_kedro.trading.execution import AccountState, Decision

BUY_AND_HOLD, EQUAL_WEIGHT, MOMENTUM, RANDOM = "buy_and_hold", "equal_weight", "momentum", "random"


class ScheduledPolicy:
    """Orders given levels at given steps and holds in between."""

    def __init__(self, levels: Tensor, due: Tensor) -> None:
        """Take levels ``[S, A]`` in units of the allocation and whether each step ``[S]`` or ``[S, A]`` trades."""
        self.levels = levels
        self.hold = ~(due if due.dim() == levels.dim() else due[:, None].expand_as(levels))

    def __call__(self, step: int, account: AccountState, close: Tensor, legal: Tensor) -> Decision:
        """Order what the schedule says."""
        return Decision(self.levels[step].expand_as(account.shares), self.hold[step].expand_as(account.shares))


class RandomPolicy:
    """Takes a legal action at random at every bar."""

    def __init__(self, steps: int, trading: TradingParameters, like: Tensor, seed: int) -> None:
        """Draw the noise for ``steps`` decisions of ``like``'s assets ``[T, A]`` from ``seed``."""
        self.levels = level_tensor(trading, like)
        generator = torch.Generator(like.device).manual_seed(seed)
        self.noise = gumbel_noise((steps, like.shape[1], len(self.levels)), generator, like)

    def __call__(self, step: int, account: AccountState, close: Tensor, legal: Tensor) -> Decision:
        """Draw uniformly among the legal actions."""
        log_probabilities = torch.where(legal, 0.0, -torch.inf).to(self.noise.dtype)
        return decode(sample_actions(log_probabilities, self.noise[step]), self.levels)


def every(timestamps: NDArray[np.datetime64], days: float) -> Tensor:
    """Mark the first row and the first row of every further period of ``days`` days ``[S]`` (bool)."""
    elapsed = (timestamps - timestamps[0]) / np.timedelta64(1, "D")
    period = np.floor(elapsed / days + 1e-9)
    due = np.ones(len(period), dtype=bool)
    due[1:] = np.diff(period) > 0
    return torch.from_numpy(due)


def buy_and_hold(market: MarketTensors, start: int, stop: int) -> ScheduledPolicy:
    """Buy every asset's allocation at the first row at which it trades, and keep it."""
    tradable = market.tradable[start:stop] & market.tradable[start + 1 : stop + 1]  # the fill needs the next bar
    first = tradable & (tradable.cumsum(0) == 1)
    return ScheduledPolicy(torch.ones_like(market.close[start:stop]), first)


def equal_weight(
    market: MarketTensors, timestamps: NDArray[np.datetime64], start: int, stop: int, parameters: BacktestParameters
) -> ScheduledPolicy:
    """Hold the same fraction of equity in every asset, restored every ``rebalance_days``."""
    due = every(timestamps[start:stop], parameters.rebalance_days)
    return ScheduledPolicy(torch.ones_like(market.close[start:stop]), due)


def momentum(
    market: MarketTensors,
    timestamps: NDArray[np.datetime64],
    start: int,
    stop: int,
    parameters: BacktestParameters,
    periods_per_year: float,
) -> ScheduledPolicy:
    """Follow the sign of the trailing return, sized for a target volatility, once a day.

    Time-series momentum in the manner of Moskowitz, Ooi and Pedersen (Journal of Financial Economics, 2012): each
    asset's level is the sign of its last ``momentum_bars`` return times target over trailing volatility, at most 1.
    """
    rows = torch.arange(start, stop)
    before = (rows - parameters.momentum_bars).clamp_min(0)
    trend = torch.sign(market.close[rows] / market.close[before] - 1.0)
    size = (parameters.volatility_target / (market.volatility[rows] * periods_per_year**0.5)).clamp_max(1.0)
    return ScheduledPolicy(trend * size, every(timestamps[start:stop], 1.0))
