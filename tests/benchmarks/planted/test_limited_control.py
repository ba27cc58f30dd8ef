"""Dynamic programming under a drawdown limit and session ends: against recursion without a grid of accounts."""

from dataclasses import replace

import numpy as np
import pytest

from planted.control import autoregressive_positions, gaussian_transition
from planted.laws import AutoregressiveLaw
from planted.limited_control import Grid, Limits, initial_value, solve

WILD = Limits(phi=0.4, sigma=0.006, cost=5e-4, limit=0.08, span=0.06, session=3, band=0.25)


def best_value(limits: Limits, grid: Grid, x: int, held: float, wealth: float, left: int, chance: np.ndarray) -> float:
    """Best profit until a session's last close by trying every target at every bar; accounts are exact."""
    if left == 0:
        return 0.0
    cap = min(max(wealth - 1.0 + limits.limit, 0.0) / limits.span, 1.0)
    targets = [size * cap for size in grid.positions if abs(size) <= 1.0]
    targets = [a for a in targets if not (a * held > 0.0 and abs(a - held) <= limits.band * abs(a))]
    targets += [held] if abs(held) <= (1.0 + limits.band) * cap else []
    prices, best = np.exp(grid.signals), -np.inf
    for target in targets:
        paid = limits.cost * abs(target - held)
        total, before = -paid, wealth * (1.0 - paid)
        profit = target * (prices - 1.0) - (limits.cost * abs(target) * prices if left == 1 else 0.0)
        for after, earned in enumerate(profit):
            reached = min(before * (1.0 + earned), 1.0)
            position = target * prices[after] / (1.0 + earned)
            total += chance[x, after] * (earned + best_value(limits, grid, after, position, reached, left - 1, chance))
        best = max(best, total)
    return best


@pytest.mark.parametrize(("bars", "per_cap", "wealth"), [(1, 8, 0.95), (2, 8, 0.95), (2, 8, 0.97), (3, 4, 1.0)])
def test_no_sequence_of_targets_earns_more(bars: int, per_cap: int, wealth: float) -> None:
    limits = replace(WILD, session=bars)
    grid = Grid.of(limits, signals=5, per_cap=per_cap, rooms=60)
    chance = gaussian_transition(limits.phi * grid.signals, limits.sigma, grid.signals)
    found = solve(limits, grid, sessions=1).values[len(grid.positions) // 2]  # [H, G]
    for x in (0, 3, 4):
        expected = best_value(limits, grid, x, 0.0, wealth, bars, chance)
        reached = np.interp(np.log(wealth - 1.0 + limits.limit), grid.rooms, found[:, x])
        assert expected > 0.0
        assert reached == pytest.approx(expected, rel=1e-3)


def test_far_from_the_limit_and_the_end_it_is_the_optimum_without_either() -> None:
    law, cost = AutoregressiveLaw(0.1, 0.004), 2e-4
    limits = Limits(law.phi, law.sigma, cost, limit=0.9, span=0.1, session=60, band=0.0)
    optimum = solve(limits, Grid.of(limits, rooms=6), sessions=1)
    returns = law.draw(2_000, 0).returns[:, 0]
    expected = autoregressive_positions(returns, law.phi, law.sigma, law.phi, cost, np.array([-1.0, 0.0, 1.0]))
    held = np.concatenate([[0.0], expected[:-1]])
    found = optimum.targets(returns, held, np.full(2_000, 0.9), np.full(2_000, 60))
    assert (np.abs(found - expected) < 0.3).mean() > 0.98


def test_before_the_end_only_what_pays_both_trades_is_opened() -> None:
    limits = Limits(phi=0.1, sigma=0.004, cost=2e-4, limit=0.08, span=0.06, session=8, band=0.25)
    optimum = solve(limits, sessions=2)
    signals = np.linspace(0.0, 0.016, 161)
    nothing, full = np.zeros(161), np.full(161, 0.08)

    def threshold(left: int) -> float:
        return float(signals[optimum.targets(signals, nothing, full, np.full(161, left)) > 0.0].min())

    assert threshold(1) == pytest.approx(2.0 * limits.cost / limits.phi, rel=0.1)
    assert threshold(8) < 0.8 * threshold(1)


def test_near_the_limit_positions_shrink_with_the_room() -> None:
    limits = Limits(phi=0.1, sigma=0.004, cost=2e-4, limit=0.08, span=0.06, session=8, band=0.25)
    optimum = solve(limits, sessions=20)
    rooms = np.array([0.0, 0.005, 0.02, 0.04])
    found = optimum.targets(np.full(4, 0.012), np.zeros(4), rooms, np.full(4, 5))
    assert found[0] == 0.0
    assert (found[1:] > 0.0).all()
    assert (found <= limits.cap(rooms)).all()
    assert found[1] / found[2] == pytest.approx(0.25, rel=0.2)  # in proportion


def test_the_worth_of_the_best_decisions_is_the_value_that_they_were_chosen_for() -> None:
    optimum = solve(WILD, Grid.of(WILD, signals=21, per_cap=4, rooms=24), sessions=1)
    value = initial_value(optimum.values, WILD, optimum.grid)
    assert optimum.worth(1) * WILD.session == pytest.approx(value, rel=1e-9)
