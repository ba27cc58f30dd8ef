"""The market ``limits``: the project's step does what dynamic programming was told."""

import numpy as np
import pytest

from planted.laws import AutoregressiveLaw
from planted.limited_control import Grid, solve
from planted.limited_market import Decision, LimitedMarket, LimitedPath, walk
from sentio_kedro.market.purged_folds import Segment


def test_everything_is_sold_at_each_last_close_at_cost() -> None:
    market = LimitedMarket(AutoregressiveLaw(0.0, 1e-9), minutes=120)
    path = LimitedPath.of(market, market.law.draw(40, 0))
    seen: list[Decision] = []

    def hold(known: Decision) -> np.ndarray:
        seen.append(known)
        return np.ones(1)

    walked = walk([path], Segment(0, 36), hold)  # three sessions of 12 bars
    assert [int(known.left[0]) for known in seen[:13]] == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 12]
    assert [float(known.position[0]) > 0.5 for known in seen[:13]] == [False] + [True] * 11 + [False]
    assert walked.expected.sum() == pytest.approx(-3 * 2 * 2e-4, rel=1e-3)
    assert walked.realised.sum() == pytest.approx(-3 * 2 * 2e-4, rel=1e-3)


def test_the_step_cuts_positions_as_the_drawdown_grows() -> None:
    market = LimitedMarket(AutoregressiveLaw(0.0, 0.01), minutes=120)
    paths = [LimitedPath.of(market, market.law.draw(140, seed)) for seed in range(8)]
    rooms: list[np.ndarray] = []

    def hold(known: Decision) -> np.ndarray:
        rooms.append(known.room)
        return np.ones(len(known.room))

    walked = walk(paths, Segment(0, 120), hold)
    assert walked.headroom == pytest.approx(market.limits.cap(np.array(rooms)))
    assert (walked.headroom < 0.5).mean() > 0.3
    assert (walked.positions <= 1.25 * walked.headroom + 1e-9).all()


def test_the_best_decisions_earn_in_the_step_what_was_computed() -> None:
    market = LimitedMarket(minutes=120)
    optimum = solve(market.limits, Grid.of(market.limits, signals=25, rooms=24), sessions=8)
    paths = [LimitedPath.of(market, market.law.draw(500, seed)) for seed in range(50)]
    walked = walk(paths, Segment(0, 480), lambda d: optimum.targets(d.signal, d.position, d.room, d.left))
    earned = walked.expected.mean(axis=0)
    error = earned.std() / len(earned) ** 0.5
    assert error < 0.05 * earned.mean()
    assert abs(earned.mean() - optimum.worth(40)) < 3.0 * error


def test_accounts_of_a_path_come_before_those_of_the_next() -> None:
    market = LimitedMarket(minutes=120)
    paths = [LimitedPath.of(market, market.law.draw(30, seed)) for seed in (0, 1)]
    walked = walk(paths, Segment(0, 24), lambda d: np.array([0.0, 1.0, 0.0, 1.0]), accounts=2)
    assert not walked.positions[:, [0, 2]].any()
    alone = walk(paths[1:], Segment(0, 24), lambda d: np.ones(1))
    assert walked.realised[:, 3] == pytest.approx(alone.realised[:, 0])


def test_the_parts_of_the_fold_follow_each_other_and_every_row_knows_its_last_close() -> None:
    market = LimitedMarket(train_bars=1_100, validation_bars=50, test_bars=40)
    path = market.draw(0)
    (train,), (validation,), (test,) = market.fold.train, market.fold.validation, market.fold.test
    assert (train.stop, validation.stop, test.stop) == (validation.start, test.start, 1_190)
    left: list[int] = []

    def flat(known: Decision) -> np.ndarray:
        left.append(int(known.left[0]))
        return np.zeros(1)

    walk([path], test, flat)
    assert all(1 <= bars <= market.limits.session for bars in left)
