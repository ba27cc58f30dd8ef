"""One compiled step of episodes: trade, observe, end."""

from __future__ import annotations

from math import log
from typing import NamedTuple

import numpy as np
from numba import prange

from sentio_kedro.trading.compilation import compiled, compiled_twice
from sentio_kedro.trading.records import Accounts, Floats, Integers, Market, Mask, Scratch, Terms
from sentio_kedro.trading.step.execution import DEAD_FRACTION
from sentio_kedro.trading.step.walk import advance, observe


class Observation(NamedTuple):
    """Inputs of a decision.

    Attributes:
        row: ``[N]`` decision row of the market; ``Episodes.features`` looks up its features.
        account: ``[N, A, G]`` account features.
        legal: ``[N, A, B]`` legal levels.
    """

    row: Integers
    account: Floats
    legal: Mask


class Outcome(NamedTuple):
    """What a step was worth, and whether it ended the episode; see ``Transition``.

    Attributes:
        reward: ``[N]``.
        terminated: ``[N]``.
        truncated: ``[N]``.
    """

    reward: Floats
    terminated: Mask
    truncated: Mask


class Places(NamedTuple):
    """Places of accounts in the market.

    Attributes:
        row: ``[N]`` decision row.
        remaining: ``[N]`` decisions to the end of the episode, this one included.
        following: ``[N]`` first row of the next episode.
    """

    row: Integers
    remaining: Integers
    following: Integers


@compiled
def observe_some(
    which: Integers, places: Places, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch
) -> None:
    """Observe the accounts ``which`` where they are."""
    for n in which:
        observe(n, places.row[n], 0, market, accounts, terms, scratch)


@compiled
def play_account(
    n: int,
    actions: Integers,
    places: Places,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    scratch: Scratch,
    outcome: Outcome,
) -> None:
    """Take one step with account ``n`` by actions ``[N, A]``, in place; ``scratch`` holds its limits where it is."""
    account, limits = accounts.account[n], scratch.limits[n]
    for a in range(len(limits)):
        limits[a].requested = terms.levels[actions[n, a]] * market.facts[places.row[n], a].unit
    floor = DEAD_FRACTION * account.initial_equity
    before = max(account.equity, floor)
    advance(n, places.row[n], market, accounts, terms, scratch)
    outcome.reward[n] = log(max(account.equity, floor) / before)
    outcome.terminated[n] = not account.alive
    outcome.truncated[n] = account.alive and places.remaining[n] <= 1
    places.row[n] += 1
    places.remaining[n] -= 1
    observe(n, places.row[n], 0, market, accounts, terms, scratch)


def _play(
    actions: Integers,
    places: Places,
    market: Market,
    accounts: Accounts,
    terms: Terms,
    scratch: Scratch,
    outcome: Outcome,
) -> None:
    """Take one step with all accounts."""
    for n in prange(len(actions)):
        play_account(int(np.int64(n)), actions, places, market, accounts, terms, scratch, outcome)


play_serial, play_parallel = compiled_twice(_play)
