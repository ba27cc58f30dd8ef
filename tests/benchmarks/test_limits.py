"""The reference of the market ``limits``: the rule scaled by what the drawdown leaves, flat before a session's end."""

import numpy as np
import pytest

import limits
from planted.limited_market import Decision, LimitedMarket


def test_positions_are_scaled_by_room_and_flat_before_the_end() -> None:
    known = Decision(1, np.zeros(4), np.zeros(4), np.array([0.08, 0.03, 0.03, -0.01]), np.array([9, 9, 2, 9]))
    policy = limits.scaled_rule(np.array([0.3, -0.8]), 0.06, np.full(4, 0.5), np.full(4, 2))
    assert policy(known) == pytest.approx([-0.8 * 0.5 * 0.08 / 0.06, -0.8 * 0.25, 0.0, 0.0])


@pytest.mark.parametrize(("sign", "constants"), [(1.0, (0.75, 2.0, 0)), (-1.0, (0.3, 0.3, 4))])
def test_constants_are_those_that_earn_most_on_the_validation_rows(
    sign: float, constants: tuple[float, float, int]
) -> None:
    market = LimitedMarket(train_bars=1_100, validation_bars=192, test_bars=10)
    path = market.draw(0)
    foreseen = sign * np.sign(np.roll(path.path.returns[:, 0], -1))
    rows = slice(*market.fold.validation[0])
    units = np.zeros(len(foreseen))
    units[rows] = foreseen[rows]  # nothing outside of them is read
    scale, flat = limits.best_constants(path, units)
    least, most, bars = constants  # who never loses has room for all that is scaled to at most 1
    assert least <= scale <= most
    assert flat == bars
