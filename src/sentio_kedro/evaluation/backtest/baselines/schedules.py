"""Baselines: the policies that any agent has to beat, through the same execution at the same costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.agent.ensemble import BatchedPolicies
from sentio_kedro.agent.network.distributions import gumbel_noise, sample_actions
from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation.backtest.context import BacktestContext, liquidation
from sentio_kedro.evaluation.backtest.walk import Chunk, simulate_rows
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import AccountState, Decision, Variation
from sentio_kedro.trading.action_masks import decode, level_tensor
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.simulate import Policy, PolicyTrace

BUY_AND_HOLD, EQUAL_WEIGHT, MOMENTUM, RANDOM = "buy_and_hold", "equal_weight", "momentum", "random"
NO_TREND = 1e-12  # log return below which a price counts as unchanged


class ScheduledPolicy:
    """Orders given levels at given steps and holds in between."""

    def __init__(self, levels: Tensor, due: Tensor) -> None:
        """Take levels ``[S, A]`` or ``[S, N, A]``, units of the allocation, and the steps ``[S]`` or levels due."""
        self.levels = levels
        self.hold = ~(due if due.dim() == levels.dim() else due[:, None].expand_as(levels))

    @property
    def inputs(self) -> PolicyTrace:
        """Levels and holds, each of one shape."""
        return self.levels, self.hold

    @classmethod
    def batch(cls, schedules: Sequence[ScheduledPolicy]) -> ScheduledPolicy:
        """Give each of N accounts a schedule ``[S, A]`` of its own."""
        levels, holds = (torch.stack(parts, dim=1) for parts in zip(*(x.inputs for x in schedules), strict=True))
        return cls(levels, ~holds)

    def part(self, start: int, stop: int) -> ScheduledPolicy:
        """Schedule of the steps ``[start, stop)``."""
        return ScheduledPolicy(self.levels[start:stop], ~self.hold[start:stop])

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        """Order the levels that are due."""
        levels, hold = inputs
        return Decision(levels.expand_as(account.shares), hold.expand_as(account.shares)), ()


class RandomPolicy:
    """Takes a legal action at random at every bar."""

    def __init__(self, noise: Tensor, levels: Tensor) -> None:
        """Take Gumbel noise ``[S, A, actions]`` and the level of each action, from ``level_tensor``."""
        self.noise, self.levels = noise, levels

    @classmethod
    def draw(cls, steps: int, trading: TradingParameters, like: Tensor, seed: int) -> RandomPolicy:
        """Draw the noise for ``steps`` decisions of ``like``'s assets ``[T, A]`` from ``seed``."""
        levels = level_tensor(trading, like)
        generator = torch.Generator(like.device).manual_seed(seed)
        return cls(gumbel_noise((steps, like.shape[1], len(levels)), generator, like), levels)

    @property
    def inputs(self) -> PolicyTrace:
        """The noise."""
        return (self.noise,)

    def part(self, start: int, stop: int) -> RandomPolicy:
        """Policy of the steps ``[start, stop)``."""
        return RandomPolicy(self.noise[start:stop], self.levels)

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        """Draw uniformly among the legal actions."""
        log_probabilities = torch.where(legal, 0.0, -torch.inf).to(self.noise.dtype)
        return decode(sample_actions(log_probabilities, inputs[0]), self.levels), ()


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
    asset's level is the sign of its last ``momentum_bars`` total return, splits and dividends counted, times target
    over trailing volatility, at most 1.
    """
    rows = torch.arange(start, stop)
    before = (rows - parameters.momentum_bars).clamp_min(0)
    total = market.close.log() if market.returns is None else market.returns.cumsum(0)  # [T, A]
    growth = total[rows] - total[before]
    trend = torch.where(growth.abs() > NO_TREND, growth.sign(), 0.0)
    size = (parameters.volatility_target / (market.volatility[rows] * periods_per_year**0.5)).clamp_max(1.0)
    return ScheduledPolicy(trend * size, every(timestamps[start:stop], 1.0))


Schedules = Mapping[str, ScheduledPolicy]
"""Schedules by name, each over the same decision rows."""


def batch_policy(schedules: Schedules, rows: Segment, span: Segment) -> list[tuple[Policy, int]]:
    """Schedules over ``span`` as one policy at ``rows``, with its number of accounts; none without schedules."""
    if not schedules:
        return []
    parts = [schedule.part(rows.start - span.start, rows.stop - span.start) for schedule in schedules.values()]
    return [(ScheduledPolicy.batch(parts), len(parts))]


def simulate_schedules(
    context: BacktestContext, span: Segment, schedules: Schedules, *, telemetry: bool = False
) -> Iterator[Chunk]:
    """Simulate one fresh account per schedule over ``span``, at whose end they close their positions.

    Accounts pay all costs and carry. The limits on positions, gross exposure and margin hold for them; the layers of
    the agents' mask do not.

    Args:
        context: The market, limits and costs.
        span: Decision rows.
        schedules: Schedules over ``span``.
        telemetry: As in ``simulate_rows``.
    """

    def policy(rows: Segment) -> BatchedPolicies:
        ends = [span.stop] * len(schedules)
        last = liquidation(rows, ends, context.trading.orders.latency_bars)
        return BatchedPolicies(batch_policy(schedules, rows, span), *last)

    unguarded = Variation(guarded=torch.zeros(len(schedules), 1, dtype=torch.bool))
    account = context.open_accounts((len(schedules),))
    return simulate_rows(
        context.market, span, policy, account, context.trading, variation=unguarded, telemetry=telemetry
    )
