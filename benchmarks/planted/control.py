"""Best positions under a known law, by dynamic programming.

The market does not answer to positions, so only the worth of holding a position *relative to being flat* matters for a
decision. With m(x) the mean of the next return in market state x, c the cost and p, a positions,

    D(x, p) = max over a of [m(x) a - c |a - p| + F(x, a)] - the same from p = 0,    F(x, a) = E[D(x', a) | x]

which is value iteration for mean reward (Puterman, Markov Decision Processes, 1994, section 8.5) less what no decision
changes. D never leaves [-c |p|, c |p|]: from p one can trade to flat, and from flat to p. The iteration therefore
forgets its start as soon as the best rule trades, even where the market's own state moves slowly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from sentio_kedro.market.ingestion.timestamps import Floats

TOLERANCE = 1e-9  # of the cost, in an iteration of the worth
ITERATIONS = 20_000
POINTS = {1: 241, 2: 81, 3: 41}  # grid points per lagged value, by number of lagged values
SPREAD = 6.0  # standard deviations that a grid covers
MIN_DEVIATION = 1e-12  # of values that hardly vary


def following_worth(means: Floats, expect: Callable[[Floats], Floats], cost: float, levels: Floats) -> Floats:
    """Worth of leaving a bar with a position, relative to leaving it flat.

    Args:
        means: ``[X]`` mean of the next return in each market state, fraction.
        expect: From worth ``[X, P]`` in the next state to its mean ``[X, P]`` given the present state.
        cost: Cost of trading, fraction of notional.
        levels: ``[P]`` positions, fraction of equity, one of them 0.

    Returns:
        F ``[X, P]`` of the module's equation.

    Raises:
        RuntimeError: If the iteration does not settle: a drift that takes more bars than that to pay the cost.
    """
    flat = flat_level(levels)
    trade = cost * np.abs(levels[None] - levels[:, None])  # [P, P] from, to
    gain = means[:, None] * levels  # [X, P]
    following = np.zeros_like(gain)
    for _ in range(ITERATIONS):
        worth = ((gain + following)[:, None] - trade).max(-1)  # [X, P]
        updated = expect(worth - worth[:, flat : flat + 1])
        settled = np.abs(updated - following).max() <= TOLERANCE * cost
        if settled:
            return updated
        following = 0.5 * (following + updated)  # half a step, so that markets that go in circles settle too
    raise RuntimeError(
        f"The worth of positions must settle within {ITERATIONS} iterations, did not at `cost` {cost:g} and a largest "
        f"mean of {np.abs(means).max():g}; lower the cost."
    )


def follow(means: Floats, following: Floats, cost: float, levels: Floats) -> Floats:
    """Take the best position at every bar, starting flat.

    Args:
        means: ``[T]`` mean of the next return.
        following: ``[T, P]`` worth of leaving the bar with each position.
        cost: Cost of trading, fraction of notional.
        levels: ``[P]`` positions, fraction of equity, one of them 0.

    Returns:
        ``[T]`` position held over (t, t + 1].
    """
    trade = cost * np.abs(levels[None] - levels[:, None])
    choice = ((means[:, None] * levels + following)[:, None] - trade).argmax(-1)  # [T, P] from each position
    held, indices = flat_level(levels), np.empty(len(means), dtype=np.int64)
    for t, best in enumerate(choice):
        held = indices[t] = best[held]
    return np.asarray(levels[indices])


def flat_level(levels: Floats) -> int:
    """Index of the position 0.

    Raises:
        ValueError: If there is none.
    """
    flat = np.flatnonzero(levels == 0.0)
    if not flat.size:
        raise ValueError(f"`levels` must hold 0, to start flat, were {levels.tolist()}; add it.")
    return int(flat[0])


def gaussian_transition(centres: Floats, deviation: float, grid: Floats) -> Floats:
    """Chance ``[..., G]`` of each point of ``grid`` ``[G]`` after a normal step to ``centres`` ``[...]``.

    The density at evenly spaced points, normalised: for points within half a deviation this sums smooth functions to
    more digits than the grid's own spacing suggests.
    """
    distance = (grid - np.asarray(centres)[..., None]) / deviation
    density = np.exp(-0.5 * (distance**2 - (distance**2).min(-1, keepdims=True)))
    return np.asarray(density / density.sum(-1, keepdims=True))


def autoregressive_positions(
    values: Floats, phi: float, sigma: float, gain: float, cost: float, levels: Floats, lag: int = 1, mean: float = 0.0
) -> Floats:
    """Best positions where the next return's mean is mean + gain x[t - lag + 1] and x is an autoregression.

    x[t + 1] = phi x[t - lag + 1] + noise. The state is the last ``lag`` values on a grid; its worth is interpolated
    linearly at the values that happened, the gain of the next bar is exact.

    Args:
        values: ``[T]`` x; what lies before the first bar counts as 0.
        phi: Autoregression.
        sigma: Deviation of the noise.
        gain: Mean of the next return per unit of x.
        cost: Cost of trading, fraction of notional.
        levels: ``[P]`` positions, fraction of equity, one of them 0.
        lag: Bars between a value and the one that depends on it, 1 to 3.
        mean: Mean of the return where x is 0.

    Returns:
        ``[T]`` position held over (t, t + 1], decided on ``values[: t + 1]``.
    """
    if lag not in POINTS:
        raise ValueError(f"`lag` must be in {sorted(POINTS)} (the grid has a dimension per lag), was {lag}; lower it.")
    sigma = max(sigma, MIN_DEVIATION)
    width = SPREAD * sigma / np.sqrt(1.0 - phi * phi)
    grid = np.linspace(-width, width, POINTS[lag])
    transition = gaussian_transition(phi * grid, sigma, grid)  # [G, G] oldest value, next value
    shape = (len(grid),) * lag

    def expect(worth: Floats) -> Floats:
        """The state (x1, ..., xL) becomes (x2, ..., xL, x'), with x' drawn around phi x1."""
        following = np.moveaxis(worth.reshape(*shape, -1), lag - 1, 0)  # [x', x2 .. xL, P]
        return (transition @ following.reshape(len(grid), -1)).reshape(worth.shape)

    oldest = np.broadcast_to(grid.reshape(-1, *(1,) * (lag - 1)), shape).ravel()
    worth = following_worth(mean + gain * oldest, expect, cost, levels)
    padded = np.concatenate([np.zeros(lag - 1), values])
    states = np.stack([padded[place : place + len(values)] for place in range(lag)], axis=-1)  # [T, lag] oldest first
    return follow(mean + gain * states[:, 0], interpolated([grid] * lag, worth, states), cost, levels)


def interpolated(axes: list[Floats], worth: Floats, states: Floats) -> Floats:
    """Interpolate ``worth`` ``[X, P]`` on a grid linearly at ``states`` ``[T, N]``; beyond it the edge counts."""
    table = worth.reshape(*(len(axis) for axis in axes), -1)
    inside = np.clip(states, [axis[0] for axis in axes], [axis[-1] for axis in axes])
    return np.asarray(RegularGridInterpolator(axes, table)(inside))
