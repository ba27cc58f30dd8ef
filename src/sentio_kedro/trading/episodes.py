"""Episodes without end: a batch of accounts that trade side by side, each starting anew when its episode is over.

One step is the step of ``simulate``. What this adds is where episodes start, when they end and what is seen before and
after. All of it is tensor arithmetic without branches on data, so that a step costs the same whoever ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import DEAD_FRACTION, AccountState, Fill
from sentio_kedro.trading.action_masks import decode, legal_actions
from sentio_kedro.trading.episode_facts import VIEWED, Fresh, World, full_position_limits, make_world, opened_accounts
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.observations import account_features
from sentio_kedro.trading.position_limits import Caps, PositionLimits

DENSE = torch.contiguous_format


class Observation(NamedTuple):
    """What accounts see at a decision.

    Attributes:
        row: ``[N]`` decision row of the market; ``Episodes.features`` looks up its features.
        account: ``[N, A, G]`` account features.
        legal: ``[N, A, actions]`` bool, legal actions.
    """

    row: Tensor
    account: Tensor
    legal: Tensor


class Transition(NamedTuple):
    """What one step brought.

    Attributes:
        observation: What to decide on next; of a new episode where one has ended.
        final_observation: The state that the step led to, before anything was reset. Equals ``observation`` where the
            episode goes on; where it was truncated, this is what to bootstrap on.
        reward: ``[N]`` log(equity after / equity before), both at least a thousandth of the initial equity, so that
            the rewards of an episode add up to the log of what became of its money.
        terminated: ``[N]`` bool, whether the account went bankrupt.
        truncated: ``[N]`` bool, whether the episode's last decision was taken and the account lives.
        fill: Ledger of the step.
    """

    observation: Observation
    final_observation: Observation
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    fill: Fill


class EpisodeState(NamedTuple):
    """Where all accounts stand.

    Attributes:
        account: Accounts ``[N]`` at the close of their rows.
        view: What ``position_limits`` says of them.
        row: ``[N]`` decision row.
        left: ``[N]`` decisions left in the episode, this one included.
    """

    account: AccountState
    view: PositionLimits
    row: Tensor
    left: Tensor


def play(
    state: EpisodeState, action: Tensor, starts: Tensor, world: World, parameters: TradingParameters, episode_bars: int
) -> tuple[EpisodeState, Transition]:
    """Take one step with all accounts and start those anew whose episode is over. Pure.

    Args:
        state: Where the accounts stand.
        action: ``[N, A]`` actions.
        starts: ``[N]`` rows where new episodes start.
        world: The market.
        parameters: Limits and costs.
        episode_bars: Decisions of an episode.
    """
    row = world.step_data(world.fills, state.row)
    after, fill = execute(state.account, state.view, decode(action, world.actions), row, parameters, telemetry=False)
    terminated = ~after.alive
    truncated = (state.left <= 1) & after.alive
    ended = terminated | truncated

    reached = state.row + 1
    row = world.step_data(world.looks, reached)
    view = full_position_limits(after, row, parameters)
    final = Observation(reached, account_features(after, view, parameters), legal_actions(after, view, row, parameters))

    floor = DEAD_FRACTION * parameters.initial_cash
    reward = (after.equity.clamp_min(floor) / state.account.equity.clamp_min(floor)).log()
    rows = torch.where(ended, starts, reached)
    fresh = Fresh._make(world.fresh.at(rows))
    observation = Observation(
        rows, _either(ended, fresh.account, final.account), _either(ended, fresh.legal, final.legal)
    )
    kept: dict[str, Any] = {
        name: None if new is None or old is None else _either(ended, new, old)
        for name, new, old in ((name, getattr(fresh, name), getattr(view, name)) for name in VIEWED)
    }
    begun = EpisodeState(
        account=_reopened(after, ended, parameters),
        view=PositionLimits(**kept, caps=Caps()),
        row=rows,
        left=torch.where(ended, episode_bars, state.left - 1),
    )
    return begun, Transition(observation, final, reward, terminated, truncated, fill)


Play = Callable[[EpisodeState, Tensor, Tensor, World, TradingParameters, int], tuple[EpisodeState, Transition]]


def _either(ended: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Take ``new`` for the accounts ``[N]`` that have ended."""
    return torch.where(ended.view(-1, *(1,) * (old.dim() - 1)), new, old)


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
    fill included, lie in one segment. It starts flat. It is truncated after its last decision, or terminated when the
    account goes bankrupt; either way the account starts a new one in the same step. Replicas that end together start
    together, and see the same path; one that goes bankrupt starts on its own.

    Actions should be legal. What a cap forbids is cut to the cap; whoever holds against the mask keeps the position.
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
        """Prepare the market's facts.

        Args:
            market: The market, in the precision and on the device to compute with.
            segments: Rows that episodes may touch.
            parameters: Limits and costs.
            episode_bars: Decisions of an episode, at least 1.
            accounts: Number of accounts N.
            generator: Source of the starts, on the market's device.
            replicas: Consecutive accounts that share their starts; divides ``accounts``.
            advance: What takes a step; null is ``play``, ``torch.compile(play)`` is faster.

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
        self.world = make_world(market, parameters)
        self._play: Play = play if advance is None else advance
        self._state: EpisodeState | None = None

    @property
    def state(self) -> EpisodeState:
        """Where the accounts stand.

        Raises:
            RuntimeError: Before the first ``reset``.
        """
        if self._state is None:
            raise RuntimeError("Episodes have no state before the first `reset`; call `reset()`.")
        return self._state

    def reset(self) -> Observation:
        """Start a new episode with every account."""
        rows, world = self._draw(), self.world
        account = opened_accounts(self.market.close[rows, 0], self.market.assets, self.parameters)
        view = full_position_limits(account, world.step_data(world.looks, rows), self.parameters)
        fresh = Fresh._make(world.fresh.at(rows))
        viewed = ((name, getattr(view, name)) for name in VIEWED)
        dense: dict[str, Any] = {name: None if x is None else x.clone(memory_format=DENSE) for name, x in viewed}
        self._state = EpisodeState(
            account=AccountState(*(x.clone() for x in account)),  # laid out as ``play`` leaves them
            view=PositionLimits(**dense, caps=Caps()),
            row=rows,
            left=torch.full_like(rows, self.episode_bars),
        )
        shape = (self.accounts, self.market.assets)
        return Observation(rows, *(x.expand(*shape, x.shape[-1]) for x in (fresh.account, fresh.legal)))

    def step(self, action: Tensor) -> Transition:
        """Take one step with every account.

        Args:
            action: ``[N, A]`` int64: 0 holds, 1 + i asks for ``trading.levels[i]``.
        """
        self._state, transition = self._play(
            self.state, action, self._draw(), self.world, self.parameters, self.episode_bars
        )
        return transition

    def features(self, observation: Observation) -> Tensor:
        """Look up the market features ``[N, A, F]`` of the rows that were observed."""
        return self.market.features[observation.row]

    def _draw(self) -> Tensor:
        groups = self.accounts // self.replicas
        drawn = torch.randint(len(self.starts), (groups,), generator=self.generator, device=self.starts.device)
        rows = self.starts.index_select(0, drawn)
        return rows if self.replicas == 1 else rows[:, None].expand(-1, self.replicas).reshape(-1)


def episode_starts(segments: Sequence[Segment], episode_bars: int, bars: int) -> Tensor:
    """List the rows ``[starts]`` from which ``episode_bars`` decisions and their fills stay inside one segment.

    Args:
        segments: Rows that episodes may touch.
        episode_bars: Decisions of an episode.
        bars: Bars of the market.

    Raises:
        ValueError: If there is none.
    """
    rooms = [range(max(part.start, 0), min(part.stop, bars) - episode_bars) for part in segments]
    if not any(rooms):
        longest = max((min(part.stop, bars) - max(part.start, 0) for part in segments), default=0)
        raise ValueError(
            f"`episode_bars` must be below the {longest} rows of the longest segment, was {episode_bars}: the bar of "
            "the last fill needs a row, too; shorten the episodes."
        )
    return torch.cat([torch.arange(room.start, room.stop) for room in rooms if room])
