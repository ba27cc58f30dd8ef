"""Endless episodes: a batch of accounts, each restarted when its episode ends.

One step is the step of ``simulate``. This module adds where episodes start, when they end, and the observations before
and after.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.environment.play import Observation, Outcome, Places, observe_some, play_parallel, play_serial
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import Accounts, Floats, Integers, Mask, Records, Scratch
from sentio_kedro.trading.simulate import make_scratch


class Transition(NamedTuple):
    """Result of one step.

    Attributes:
        observation: Inputs of the next decision; of a new episode where one has ended.
        final_observation: State after the step and before any reset. Bootstrap on it where an episode was truncated; it
            equals ``observation`` where none has ended.
        reward: ``[N]`` log(equity after / equity before), both at least a thousandth of the initial equity. The rewards
            of an episode add up to the log of its growth.
        terminated: ``[N]`` whether the account went bankrupt.
        truncated: ``[N]`` whether the episode's last decision was taken by a solvent account.
        fills: ``[N, A]`` ledger of the step, records ``FILL``.
        total: ``[N]`` its totals, records ``TOTAL``.
    """

    observation: Observation
    final_observation: Observation
    reward: Floats
    terminated: Mask
    truncated: Mask
    fills: Records
    total: Records


class EpisodeState(NamedTuple):
    """Accounts, their places in the market, and their limits there.

    Attributes:
        accounts: N accounts.
        places: Their rows.
        scratch: Limits and legal levels there.
    """

    accounts: Accounts
    places: Places
    scratch: Scratch


class Episodes:
    """N accounts that play episodes for as long as ``step`` is called.

    An episode is ``episode_bars`` decisions from a random row of the train segments; all its rows, the bar of its last
    fill included, lie in one segment. It starts flat. It is truncated after its last decision, or terminated by
    bankruptcy; either way the account starts a new one in the same step. Replicas that end together restart together,
    on the same path; one that goes bankrupt restarts alone.

    Actions should be legal; a level beyond a cap is cut to the cap. No later step changes what one has returned.
    """

    def __init__(
        self,
        market: MarketTensors,
        segments: Sequence[Segment],
        parameters: TradingParameters,
        episode_bars: int,
        accounts: int,
        generator: np.random.Generator,
        replicas: int = 1,
    ) -> None:
        """Compute the facts of all rows.

        Args:
            market: The market, on a CPU.
            segments: Rows that episodes may touch.
            parameters: Limits and costs.
            episode_bars: Decisions of an episode, at least 1.
            accounts: Number of accounts N.
            generator: Source of the starts.
            replicas: Consecutive accounts that share their starts; divides ``accounts``.

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
        self.starts = episode_starts(segments, episode_bars, market.bars)
        self._facts, self._terms = market_facts(market, 0, market.bars, parameters), terms_of(parameters, market.assets)
        self._state: EpisodeState | None = None

    @property
    def levels(self) -> int:
        """Number of levels B."""
        return len(self.parameters.levels)

    @property
    def state(self) -> EpisodeState:
        """The accounts, which the next step changes in place.

        Raises:
            RuntimeError: Before the first ``reset``.
        """
        if self._state is None:
            raise RuntimeError("Episodes have no state before the first `reset`; call `reset()`.")
        return self._state

    def reset(self) -> Observation:
        """Start a new episode with every account."""
        accounts = open_accounts(self.accounts, self.market.assets, self.parameters)
        places = Places(*np.zeros((3, self.accounts), np.int64))
        state = EpisodeState(accounts, places, make_scratch(accounts, self.levels))
        everywhere = np.ones(self.accounts, np.bool_)
        self._draw(places, everywhere)
        self._begin(state, everywhere)
        self._state = state
        return Observation(places.row.copy(), state.scratch.features, state.scratch.legal)

    def step(self, actions: Integers) -> Transition:
        """Take one step by actions ``[N, A]``, indices of ``trading.levels``.

        Raises:
            RuntimeError: Before the first ``reset``.
            ValueError: If ``actions`` has another shape, or an index is no level's.
        """
        state, actions = self.state, self._checked(actions)
        fresh = {name: np.empty_like(getattr(state.scratch, name)) for name in ("legal", "features", "fills", "total")}
        accounts, places, scratch = state.accounts, state.places, state.scratch._replace(**fresh)
        outcome = Outcome(np.empty(self.accounts), *np.empty((2, self.accounts), np.bool_))
        alone = self.accounts > 1 and threading.current_thread() is threading.main_thread()
        play = play_parallel if alone else play_serial
        play(actions, places, self._facts, accounts, self._terms, scratch, outcome)
        final = Observation(places.row.copy(), scratch.features.copy(), scratch.legal.copy())
        self._begin(EpisodeState(accounts, places, scratch), outcome.terminated | outcome.truncated)
        seen = Observation(places.row.copy(), scratch.features, scratch.legal)
        return Transition(seen, final, *outcome, scratch.fills, scratch.total)

    def features(self, observation: Observation) -> Floats:
        """Look up the market features ``[N, A, F]`` of the observed rows."""
        return np.asarray(self.market.features.numpy()[observation.row])

    def _begin(self, state: EpisodeState, ended: Mask) -> None:
        """Make the accounts that have ``ended`` ``[N]`` new in every field, and observe them where they begin."""
        which = np.flatnonzero(ended)
        if not which.size:
            return
        opened, places = open_accounts(1, self.market.assets, self.parameters), state.places
        for part, new in zip(state.accounts, opened, strict=True):
            part[which] = new
        places.row[which], places.remaining[which] = places.following[which], self.episode_bars
        observe_some(which, places, self._facts, state.accounts, self._terms, state.scratch)
        self._draw(places, ended)

    def _draw(self, places: Places, ended: Mask) -> None:
        """Draw the next starts of the replicas of which one has ``ended`` ``[N]``."""
        groups = np.flatnonzero(ended.reshape(-1, self.replicas).any(axis=1))
        drawn = self.starts[self.generator.integers(len(self.starts), size=len(groups))]
        places.following.reshape(-1, self.replicas)[groups] = drawn[:, None]

    def _checked(self, actions: Integers) -> Integers:
        shape = (self.accounts, self.market.assets)
        if np.shape(actions) != shape:
            raise ValueError(
                f"`actions` must have the shape {shape} (accounts, assets), was {np.shape(actions)}; reshape them."
            )
        actions = np.ascontiguousarray(actions, dtype=np.int64)
        if actions.min() < 0 or actions.max() >= self.levels:
            raise ValueError(
                f"`actions` must be from 0 to {self.levels - 1}, indices of the {self.levels} levels, were from "
                f"{actions.min()} to {actions.max()}; correct them."
            )
        return actions


def episode_starts(segments: Sequence[Segment], episode_bars: int, bars: int) -> Integers:
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
    return np.concatenate([np.arange(part.start, part.stop) for part in ranges if part])
