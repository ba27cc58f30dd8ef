"""One compiled step of endless episodes: trade, end, begin again, observe."""

from __future__ import annotations

from math import log
from typing import NamedTuple

from numba import prange

from sentio_kedro.trading.compilation import compiled, compiled_parallel
from sentio_kedro.trading.execution import DEAD_FRACTION
from sentio_kedro.trading.limits import headroom, margin_call
from sentio_kedro.trading.records import Accounts, Floats, Integers, Market, Mask, Scratch, Terms
from sentio_kedro.trading.walk import advance, observe


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
def begin(
    n: int,
    episode_bars: int,
    market: Market,
    terms: Terms,
    opened: Accounts,
    accounts: Accounts,
    places: Places,
    scratch: Scratch,
) -> None:
    """Make account ``n`` equal in every field to the one that is ``opened``, and observe it where it begins."""
    accounts.account[n] = opened.account[0]
    for a in range(accounts.holdings.shape[1]):
        accounts.holdings[n, a] = opened.holdings[0, a]
        for slot in range(accounts.in_flight.shape[2]):
            accounts.in_flight[n, a, slot] = opened.in_flight[0, a, slot]
    for session in range(accounts.session_highs.shape[1]):
        accounts.session_highs[n, session] = opened.session_highs[0, session]
    for session in range(accounts.day_trades.shape[1]):
        accounts.day_trades[n, session] = opened.day_trades[0, session]
    places.row[n], places.remaining[n] = places.following[n], episode_bars
    observe(n, places.row[n], 0, market, accounts, terms, scratch)


@compiled
def begin_all(
    episode_bars: int,
    market: Market,
    terms: Terms,
    opened: Accounts,
    accounts: Accounts,
    places: Places,
    scratch: Scratch,
) -> None:
    """Begin a new episode with every account."""
    for n in range(len(places.row)):
        begin(n, episode_bars, market, terms, opened, accounts, places, scratch)


@compiled
def play_account(
    n: int,
    actions: Integers,
    episode_bars: int,
    market: Market,
    terms: Terms,
    opened: Accounts,
    accounts: Accounts,
    places: Places,
    scratch: Scratch,
    final: Observation,
    outcome: Outcome,
) -> None:
    """Take one step with account ``n`` by actions ``[N, A]``, in place; it begins anew if its episode has ended."""
    account, limits, row = accounts.account[n], scratch.limits[n], places.row[n]
    for a in range(len(limits)):
        limits[a].requested = terms.levels[actions[n, a]] * terms.allocation[a]
    floor = DEAD_FRACTION * account.initial_equity
    before = max(account.equity, floor)
    room = headroom(account, terms.rules[0])
    called = margin_call(account, accounts.holdings[n], market.facts[row], terms.rules[0])
    advance(n, row, room, called, market, accounts, terms, scratch)
    outcome.reward[n] = log(max(account.equity, floor) / before)
    outcome.terminated[n] = not account.alive
    outcome.truncated[n] = account.alive and places.remaining[n] <= 1
    places.row[n] += 1
    places.remaining[n] -= 1
    observe(n, places.row[n], 0, market, accounts, terms, scratch)
    final.row[n] = places.row[n]
    for a in range(len(limits)):
        for g in range(final.account.shape[2]):
            final.account[n, a, g] = scratch.features[n, a, g]
        for b in range(final.legal.shape[2]):
            final.legal[n, a, b] = scratch.legal[n, a, b]
    if outcome.terminated[n] or outcome.truncated[n]:
        begin(n, episode_bars, market, terms, opened, accounts, places, scratch)


@compiled
def play_serial(
    actions: Integers,
    episode_bars: int,
    market: Market,
    terms: Terms,
    opened: Accounts,
    accounts: Accounts,
    places: Places,
    scratch: Scratch,
    final: Observation,
    outcome: Outcome,
) -> None:
    """Take one step with all accounts in one thread. ``scratch`` holds limits of the accounts where they are."""
    for n in range(len(actions)):
        play_account(n, actions, episode_bars, market, terms, opened, accounts, places, scratch, final, outcome)


@compiled_parallel
def play_parallel(
    actions: Integers,
    episode_bars: int,
    market: Market,
    terms: Terms,
    opened: Accounts,
    accounts: Accounts,
    places: Places,
    scratch: Scratch,
    final: Observation,
    outcome: Outcome,
) -> None:
    """``play_serial`` with accounts spread over threads; never called by two threads at a time."""
    for n in prange(len(actions)):
        play_account(n, actions, episode_bars, market, terms, opened, accounts, places, scratch, final, outcome)
