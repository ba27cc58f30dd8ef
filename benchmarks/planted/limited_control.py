"""Best positions in a first-order autoregression under a drawdown limit and session ends, by dynamic programming.

The account answers to positions here: what is lost lowers the cap that the drawdown limit sets. The state at a decision
is (x, p, room, n): the last log return, the position as a fraction of equity, limit - drawdown, and the bars up to the
session's last close, the next one included. The step is the project's: a target a of at most the cap is traded at cost
c |a - p|, a position within ``band`` of its target stays, the bar's return e^x' - 1 is earned, and what is held at a
session's last close is sold there at cost. With equity E and w = E / peak = 1 - limit + room,

    V_n(x, p, w) = max over a of [-c |a - p| + F_n(x, a, w (1 - c |a - p|))]
    F_n(x, a, w) = E[a (e^x' - 1) + V_{n-1}(x', p', min(1, w (1 + a (e^x' - 1))))]

which is the sum of profits as fractions of equity. Positions lie on a grid in units of the cap, and room on a
logarithmic one: near the limit everything shrinks in proportion. V is interpolated by cubics in log room and linearly
in the position; F changes by its slope over the cost of a trade, at most 0.7 % of the room. Linear interpolation of the
room would lose 10 % of the profit: its errors add up over thousands of bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numba
import numpy as np

from planted.control import gaussian_transition
from sentio_kedro.market.ingestion.timestamps import Floats

WIDTH = 5.0  # deviations of the signal that its grid covers
WIDEST = 1.5  # caps: the largest position on the grid; a loss can lower the cap below a position
STAY = -1  # the choice to trade nothing


@dataclass(frozen=True)
class Limits:
    """Law, costs and limits.

    Attributes:
        phi: Autoregression of the log returns.
        sigma: Deviation of their noise per bar, fraction.
        cost: Cost of trading, fraction of notional.
        limit: Drawdown at which the account must be flat, fraction.
        span: Room at and above which the cap is 1, fraction: ``limit`` x (1 - soft limit).
        session: Bars of a session.
        band: Distance from its target, fraction of the target, at which a position is not traded.
    """

    phi: float
    sigma: float
    cost: float
    limit: float
    span: float
    session: int
    band: float

    def cap(self, room: Floats) -> Floats:
        """Largest size of a position ``[...]``, fraction of equity."""
        return np.clip(room / self.span, 0.0, 1.0)


@dataclass(frozen=True)
class Grid:
    """Points of the state.

    Attributes:
        signals: ``[G]`` last log returns.
        positions: ``[Q]`` positions in units of the cap, evenly spaced, 0 and 1 among them.
        rooms: ``[H]`` logs of limit - drawdown, evenly spaced, the last without drawdown.
    """

    signals: Floats
    positions: Floats
    rooms: Floats

    @classmethod
    def of(cls, limits: Limits, signals: int = 41, per_cap: int = 8, rooms: int = 40, floor: float = 0.01) -> Grid:
        """Space the points; smaller rooms than ``floor`` x the limit count as that one."""
        width = WIDTH * limits.sigma / np.sqrt(1.0 - limits.phi**2)
        most = int(WIDEST * per_cap)
        return cls(
            np.linspace(-width, width, signals),
            np.arange(-most, most + 1) / per_cap,
            np.linspace(log(floor * limits.limit), log(limits.limit), rooms),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Q, H, G: positions, rooms, signals."""
        return len(self.positions), len(self.rooms), len(self.signals)


@dataclass(frozen=True)
class LimitedOptimum:
    """Best decisions of a session that many sessions follow.

    Attributes:
        limits: The problem.
        grid: Its points.
        following: ``[N, Q, H, G]`` F by bars left, less one.
        choices: ``[N, Q, H, G]`` index of the position moved to, ``STAY`` to trade nothing.
        values: ``[Q, H, G]`` V at the session's first decision: the profit up to the horizon.
    """

    limits: Limits
    grid: Grid
    following: Floats
    choices: np.ndarray
    values: Floats

    def worth(self, sessions: int) -> float:
        """Mean profit per bar of these decisions over whole sessions, begun flat, without drawdown, at any signal."""
        values = np.zeros(self.grid.shape)
        for _ in range(sessions):
            for left in range(1, self.limits.session + 1):
                following = _following(values, left, self.limits, self.grid)
                values = _follow(following, self.choices[left - 1], self.limits, self.grid)
        return initial_value(values, self.limits, self.grid) / (sessions * self.limits.session)

    def targets(self, signal: Floats, position: Floats, room: Floats, left: np.ndarray) -> Floats:
        """Best targets ``[N]`` of N accounts, fraction of equity.

        Args:
            signal: ``[N]`` last log return.
            position: ``[N]`` fraction of equity.
            room: ``[N]`` limit - drawdown, fraction.
            left: ``[N]`` bars up to the session's last close.
        """
        grid, limits = self.grid, self.limits
        cap, table = limits.cap(room), np.asarray(left) - 1
        h, high = _place(np.log(np.maximum(room, 1e-12)), grid.rooms)
        g, right = _place(signal, grid.signals)
        n, zero = np.arange(len(signal)), len(grid.positions) // 2
        high, right, following = high[:, None], right[:, None], self.following
        low = (1.0 - right) * following[table, :, h, g] + right * following[table, :, h, g + 1]  # [N, Q]
        upper = (1.0 - right) * following[table, :, h + 1, g] + right * following[table, :, h + 1, g + 1]
        value = (1.0 - high) * low + high * upper
        slope = (upper - low) / (grid.rooms[1] - grid.rooms[0])
        slope -= np.where(cap < 1.0, 1.0, 0.0)[:, None] * np.gradient(value, grid.positions, axis=1) * grid.positions
        sizes = grid.positions * cap[:, None]
        paid = limits.cost * np.abs(sizes - position[:, None])
        score = value - paid * (1.0 + slope * ((1.0 - limits.limit + room) / np.maximum(room, 1e-12))[:, None])
        inside = np.abs(sizes - position[:, None]) <= limits.band * np.abs(sizes)
        score[(np.abs(grid.positions) > 1.0 + 1e-9) | (inside & (sizes * position[:, None] > 0.0))] = -np.inf
        held = np.where(cap > 0.0, position / np.maximum(cap, 1e-12), 0.0)
        q, share = _place(held, grid.positions)
        stay = (1.0 - share) * value[n, q] + share * value[n, q + 1]
        stay = np.where(np.abs(position) <= (1.0 + limits.band) * cap, stay, -np.inf)
        best = np.where(cap > 0.0, score.argmax(axis=1), zero)
        return np.where(stay >= score[n, best], position, sizes[n, best])


def solve(limits: Limits, grid: Grid | None = None, sessions: int = 30) -> LimitedOptimum:
    """Find the best decisions of a session that is followed by ``sessions`` - 1 more, after which nothing counts.

    Args:
        limits: The problem.
        grid: Points of the state; None is ``Grid.of``.
        sessions: Horizon. 25, 30 and 60 differ by 0.3 % in what their decisions earn over 85 sessions.
    """
    grid = Grid.of(limits) if grid is None else grid
    values = np.zeros(grid.shape)
    following = np.empty((limits.session, *grid.shape), np.float32)
    choices = np.empty(following.shape, np.int16)
    for _ in range(sessions):
        for left in range(1, limits.session + 1):
            found = _following(values, left, limits, grid)
            following[left - 1] = found - found[len(grid.positions) // 2, -1].mean()  # float32: near 0
            values = np.empty(grid.shape)
            slopes = _slopes(found, limits, grid)
            _choose(
                found, slopes, grid.positions, grid.rooms, *_numbers(limits), limits.band, values, choices[left - 1]
            )
    return LimitedOptimum(limits, grid, following, choices, values)


def initial_value(values: Floats, limits: Limits, grid: Grid) -> float:
    """Mean of V ``[Q, H, G]`` over the signal's stationary law, flat and without drawdown."""
    deviation = limits.sigma / np.sqrt(1.0 - limits.phi**2)
    chances = gaussian_transition(np.zeros(1), deviation, grid.signals)[0]
    return float(chances @ values[len(grid.positions) // 2, -1])


def _place(values: Floats, points: Floats) -> tuple[np.ndarray, Floats]:
    """Index of the point at or below each value, and the share of the way to the next one; ends count beyond them."""
    place = np.clip((values - points[0]) / (points[1] - points[0]), 0.0, len(points) - 1.0)
    low = np.minimum(place.astype(np.int64), len(points) - 2)
    return low, place - low


def _numbers(limits: Limits) -> tuple[float, float, float]:
    return limits.limit, limits.span, limits.cost


def _following(values: Floats, left: int, limits: Limits, grid: Grid) -> Floats:
    """F ``[Q, H, G]`` with ``left`` bars up to the session's last close, from V after the next bar."""
    gained = np.empty(grid.shape)
    _hold(values, grid.signals, grid.positions, grid.rooms, *_numbers(limits), left == 1, gained)
    transition = gaussian_transition(limits.phi * grid.signals, limits.sigma, grid.signals)  # [G, G]
    return (gained.reshape(-1, len(grid.signals)) @ transition.T).reshape(grid.shape)


def _slopes(following: Floats, limits: Limits, grid: Grid) -> Floats:
    """Slope of F in log room ``[Q, H, G]`` for a fixed position: the grid's positions are in units of the cap."""
    moving = (np.exp(grid.rooms) < limits.span)[None, :, None]
    across = np.gradient(following, grid.positions, axis=0) * grid.positions[:, None, None]
    return np.asarray(np.gradient(following, grid.rooms, axis=1) - np.where(moving, across, 0.0))


def _follow(following: Floats, choices: np.ndarray, limits: Limits, grid: Grid) -> Floats:
    """V ``[Q, H, G]`` of given choices."""
    moved = np.where(choices == STAY, np.arange(len(grid.positions))[:, None, None], choices)
    room = np.exp(grid.rooms)[:, None]  # [H, 1]
    distance = np.abs(grid.positions[moved] - grid.positions[:, None, None]) * limits.cap(room)
    after, slope = (np.take_along_axis(part, moved, axis=0) for part in (following, _slopes(following, limits, grid)))
    return np.asarray(after - limits.cost * distance * (1.0 + slope * (1.0 - limits.limit + room) / room))


@numba.njit(cache=True)
def _hold(
    values: Floats,
    signals: Floats,
    positions: Floats,
    rooms: Floats,
    limit: float,
    span: float,
    cost: float,
    last: bool,
    gained: Floats,
) -> None:
    """Profit of the next bar and V after it, for each position, room and next signal ``[Q, H, G]``."""
    count, heights = len(positions), len(rooms)
    least, step, width = exp(rooms[0]), rooms[1] - rooms[0], positions[1] - positions[0]
    for i in range(count):
        for h in range(heights):
            room = exp(rooms[h])
            held = positions[i] * min(room / span, 1.0)
            for g in range(len(signals)):
                price = exp(signals[g])
                profit = held * (price - 1.0) - (cost * abs(held) * price if last else 0.0)
                left = min(max((1.0 - limit + room) * (1.0 + profit) - (1.0 - limit), least), limit)
                share = 0.0 if last else held * price / (1.0 + profit) / min(left / span, 1.0)
                x = (log(left) - rooms[0]) / step
                j = min(max(int(x) - 1, 0), heights - 4)
                x -= j
                first, second = -(x - 1.0) * (x - 2.0) * (x - 3.0) / 6.0, x * (x - 2.0) * (x - 3.0) / 2.0
                third, fourth = -x * (x - 1.0) * (x - 3.0) / 2.0, x * (x - 1.0) * (x - 2.0) / 6.0
                y = min(max((share - positions[0]) / width, 0.0), count - 1.0)
                k = min(int(y), count - 2)
                y -= k
                total = 0.0
                for side in range(2):
                    weight = y if side else 1.0 - y
                    total += weight * (
                        first * values[k + side, j, g]
                        + second * values[k + side, j + 1, g]
                        + third * values[k + side, j + 2, g]
                        + fourth * values[k + side, j + 3, g]
                    )
                gained[i, h, g] = profit + total


@numba.njit(cache=True)
def _choose(
    following: Floats,
    slopes: Floats,
    positions: Floats,
    rooms: Floats,
    limit: float,
    span: float,
    cost: float,
    band: float,
    values: Floats,
    choices: np.ndarray,
) -> None:
    """Write V ``[Q, H, G]`` and the best choices; what the step would not trade, or cut to the cap, is no choice."""
    count, heights, width = following.shape
    for i in range(count):
        for h in range(heights):
            room = exp(rooms[h])
            cap = min(room / span, 1.0)
            values[i, h, :] = -np.inf
            for s in range(-1, count):
                moved = i if s == STAY else s
                distance, size = abs(positions[moved] - positions[i]), abs(positions[moved])
                if s == STAY:
                    if size > 1.0 + band + 1e-9:
                        continue
                elif size > 1.0 + 1e-9 or (positions[moved] * positions[i] > 0.0 and distance <= band * size):
                    continue
                paid = cost * distance * cap
                slope = (1.0 - limit + room) / room
                for g in range(width):
                    value = following[moved, h, g] - paid * (1.0 + slope * slopes[moved, h, g])
                    if value > values[i, h, g]:
                        values[i, h, g], choices[i, h, g] = value, s
