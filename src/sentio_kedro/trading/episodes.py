"""Endless episodes: a batch of accounts, each restarted when its episode ends.

One step is the step of ``simulate``. This module adds where episodes start, when they end, and the observations before
and after. There are no branches on data, so that a step costs the same whichever accounts end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import DEAD_FRACTION, AccountState, Fill, open_accounts
from sentio_kedro.trading.action_masks import decode, legal_actions, level_tensor
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.observations import account_features
from sentio_kedro.trading.position_limits import PositionLimits, position_limits
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.step_data import StepData


class Observation(NamedTuple):
    """Inputs of a decision.

    Attributes:
        row: ``[N]`` decision row of the market; ``Episodes.features`` looks up its features.
        account: ``[N, A, G]`` account features.
        legal: ``[N, A, actions]`` bool, legal actions.
    """

    row: Tensor
    account: Tensor
    legal: Tensor


class Transition(NamedTuple):
    """Result of one step.

    Attributes:
        observation: Inputs of the next decision; of a new episode where one has ended.
        final_observation: State after the step and before any reset. Bootstrap on it where an episode was truncated;
            elsewhere it equals ``observation`` unless the account went bankrupt.
        reward: ``[N]`` log(equity after / equity before), both at least a thousandth of the initial equity. The rewards
            of an episode add up to the log of its growth.
        terminated: ``[N]`` bool, whether the account went bankrupt.
        truncated: ``[N]`` bool, whether the episode's last decision was taken by a solvent account.
        fill: Ledger of the step.
    """

    observation: Observation
    final_observation: Observation
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    fill: Fill


class World(NamedTuple):
    """Market of the episodes.

    Attributes:
        step_data: Market data of all rows ``[T, A]``.
        levels: ``[actions]`` from ``level_tensor``.
    """

    step_data: StepData
    levels: Tensor


class EpisodeState(NamedTuple):
    """Accounts and their places in the market.

    Attributes:
        account: Accounts ``[N]`` at the close of their rows.
        limits: Their limits.
        row: ``[N]`` decision row.
        remaining: ``[N]`` decisions to the end of the episode, this one included.
    """

    account: AccountState
    limits: PositionLimits
    row: Tensor
    remaining: Tensor


def play(
    state: EpisodeState, action: Tensor, starts: Tensor, world: World, parameters: TradingParameters, episode_bars: int
) -> tuple[EpisodeState, Transition]:
    """Take one step with all accounts and restart those whose episode has ended. Pure.

    Args:
        state: Accounts before the step.
        action: ``[N, A]`` actions.
        starts: ``[N]`` rows of new episodes.
        world: Market.
        parameters: Limits and costs.
        episode_bars: Decisions of an episode.
    """
    row = world.step_data.step(state.row)
    after, fill = execute(state.account, state.limits, decode(action, world.levels), row, parameters, telemetry=False)
    terminated = ~after.alive
    truncated = (state.remaining <= 1) & after.alive
    ended = terminated | truncated
    floor = DEAD_FRACTION * parameters.initial_cash
    reward = (after.equity.clamp_min(floor) / state.account.equity.clamp_min(floor)).log()

    reached = state.row + 1
    remaining = torch.where(ended, episode_bars, state.remaining - 1)
    _, final = _observe(after, reached, remaining, world, parameters)
    rows = torch.where(ended, starts, reached)
    following, observation = _observe(_reopened(after, ended, parameters), rows, remaining, world, parameters)
    return following, Transition(observation, final, reward, terminated, truncated, fill)


Play = Callable[[EpisodeState, Tensor, Tensor, World, TradingParameters, int], tuple[EpisodeState, Transition]]


def _observe(
    account: AccountState, rows: Tensor, remaining: Tensor, world: World, parameters: TradingParameters
) -> tuple[EpisodeState, Observation]:
    row = world.step_data.step(rows)
    limits = position_limits(account, row, parameters)
    features = account_features(account, limits, parameters)
    observation = Observation(rows, features, legal_actions(account, limits, row, parameters))
    return EpisodeState(account, limits, rows, remaining), observation


def _reopened(account: AccountState, ended: Tensor, parameters: TradingParameters) -> AccountState:
    """Replace ended accounts by new ones: equal in every field to what ``open_accounts`` returns."""
    cash = parameters.initial_cash
    money = {"cash", "equity", "peak_equity", "initial_equity", "session_equity"}
    fields = {
        name: torch.where(ended.view(-1, *(1,) * (x.dim() - 1)), cash if name in money else 0.0, x)
        for name, x in account._asdict().items()
        if name != "alive"
    }
    return AccountState(**fields, alive=account.alive | ended)


class Episodes:
    """N accounts that play episodes for as long as ``step`` is called.

    An episode is ``episode_bars`` decisions from a random row of the train segments; all its rows, the bar of its last
    fill included, lie in one segment. It starts flat. It is truncated after its last decision, or terminated by
    bankruptcy; either way the account starts a new one in the same step. Replicas that end together restart together,
    on the same path; one that goes bankrupt restarts alone.

    Actions should be legal. An action beyond a cap is cut to the cap; an illegal HOLD keeps the position.
    """

    def __init__(
        self,
        market: MarketTensors,
        segments: Sequence[Segment],
        parameters: TradingParameters,
        episode_bars: int,
        accounts: int,
        generator: torch.Generator,
        replicas: int = 1,
        advance: Play | None = None,
    ) -> None:
        """Compute the market data of all rows.

        Args:
            market: The market, in the precision and on the device to compute with.
            segments: Rows that episodes may touch.
            parameters: Limits and costs.
            episode_bars: Decisions of an episode, at least 1.
            accounts: Number of accounts N.
            generator: Source of the starts, on the market's device.
            replicas: Consecutive accounts that share their starts; divides ``accounts``.
            advance: Function of one step; None is ``play``, ``torch.compile(play)`` is faster.

        Raises:
            ValueError: If no segment has room for an episode, or the numbers do not fit.
        """
        if episode_bars < 1 or replicas < 1 or accounts < 1 or accounts % replicas:
            raise ValueError(
                "`episode_bars`, `accounts` and `replicas` must be at least 1 and `accounts` a multiple of `replicas`, "
                f"were {episode_bars}, {accounts} and {replicas}; change them."
            )
        self.market, self.parameters, self.episode_bars = market, parameters, episode_bars
        self.accounts, self.replicas, self.generator = accounts, replicas, generator
        self.starts = episode_starts(segments, episode_bars, market.bars).to(market.close.device)
        data = make_step_data(market, torch.arange(market.bars, device=market.close.device), parameters)
        self.world = World(data, level_tensor(parameters, market.close))
        self._play: Play = play if advance is None else advance
        self._state: EpisodeState | None = None

    @property
    def state(self) -> EpisodeState:
        """Accounts and their places in the market.

        Raises:
            RuntimeError: Before the first ``reset``.
        """
        if self._state is None:
            raise RuntimeError("Episodes have no state before the first `reset`; call `reset()`.")
        return self._state

    def reset(self) -> Observation:
        """Start a new episode with every account."""
        rows, parameters = self._draw(), self.parameters
        cash = torch.full_like(self.market.close[rows, 0], parameters.initial_cash)
        account = open_accounts(cash, self.market.assets, parameters.orders.latency_bars)
        remaining = torch.full_like(rows, self.episode_bars)
        self._state, observation = _observe(account, rows, remaining, self.world, parameters)
        return observation

    def step(self, action: Tensor) -> Transition:
        """Take one step by actions ``[N, A]`` (int64): 0 holds, 1 + i requests ``trading.levels[i]``."""
        self._state, transition = self._play(
            self.state, action, self._draw(), self.world, self.parameters, self.episode_bars
        )
        return transition

    def features(self, observation: Observation) -> Tensor:
        """Look up the market features ``[N, A, F]`` of the observed rows."""
        return self.market.features[observation.row]

    def _draw(self) -> Tensor:
        groups = self.accounts // self.replicas
        drawn = torch.randint(len(self.starts), (groups,), generator=self.generator, device=self.starts.device)
        rows = self.starts.index_select(0, drawn)
        return rows if self.replicas == 1 else rows[:, None].expand(-1, self.replicas).reshape(-1)


def episode_starts(segments: Sequence[Segment], episode_bars: int, bars: int) -> Tensor:
    """List the rows ``[starts]`` from which ``episode_bars`` decisions and their fills stay inside one segment.

    Raises:
        ValueError: If no segment of the market's ``bars`` is long enough.
    """
    ranges = [range(max(part.start, 0), min(part.stop, bars) - episode_bars) for part in segments]
    if not any(ranges):
        longest = max((min(part.stop, bars) - max(part.start, 0) for part in segments), default=0)
        raise ValueError(
            f"`episode_bars` must be below the {longest} rows of the longest segment, was {episode_bars}: the bar of "
            "the last fill needs a row, too; lower it."
        )
    return torch.cat([torch.arange(part.start, part.stop) for part in ranges if part])
