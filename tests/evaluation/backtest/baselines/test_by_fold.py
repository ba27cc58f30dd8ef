"""Baselines of a fold: the regime rule, and folds laid end to end."""

from types import SimpleNamespace

import numpy as np
import torch

from sentio_kedro.config import BacktestParameters
from sentio_kedro.evaluation.backtest.baselines.by_fold import concatenate_schedules, fold_baselines, regime_rule
from sentio_kedro.evaluation.backtest.baselines.schedules import ScheduledPolicy
from sentio_kedro.market.purged_folds import Fold, Segment

STAMPS = np.datetime64("2020-01-01T08:00", "ns") + np.arange(60) * np.timedelta64(8, "h")
PARAMETERS = BacktestParameters(baselines=["ridge", "regime_rule"], rebalance_days=7)


def likeliest(states: list[int], count: int = 3) -> torch.Tensor:
    return 0.1 + 0.7 * torch.nn.functional.one_hot(torch.tensor(states), count).double()


def test_the_regime_rule_is_flat_where_the_most_volatile_regime_is_the_likeliest_at_the_days_look() -> None:
    states = [0, 2, 0, 1, 1, 2, 2, 2, 0, 2, 0, 0, 0, 0, 0]  # three bars a day
    policy = regime_rule(likeliest(states), STAMPS[:15], 2, PARAMETERS)
    assert policy.levels[:, 1].tolist() == [1.0] * 6 + [0.0] * 6 + [1.0] * 3
    assert (~policy.hold[:, 0]).nonzero().flatten().tolist() == [0, 6, 12]
    assert policy.levels.shape == policy.hold.shape == (15, 2)


def test_the_regime_rule_restores_equal_weights_and_starts_flat_in_a_crisis() -> None:
    always = regime_rule(likeliest([0] * 60), STAMPS, 1, PARAMETERS)
    assert (~always.hold[:, 0]).nonzero().flatten().tolist() == [0, 21, 42]
    crisis = regime_rule(likeliest([2] * 60), STAMPS, 1, PARAMETERS)
    assert crisis.levels.eq(0.0).all()


def test_one_regime_is_a_calm_one() -> None:
    assert regime_rule(torch.ones(9, 1).double(), STAMPS[:9], 1, PARAMETERS).levels.eq(1.0).all()


def test_each_fold_follows_its_own_filter_at_its_own_rows() -> None:
    posteriors = {0: likeliest([0] * 60), 1: likeliest([2] * 60)}
    context = SimpleNamespace(
        posteriors=lambda fold: [posteriors[fold]],
        bars=SimpleNamespace(timestamps=STAMPS),
        market=SimpleNamespace(assets=1),
    )
    folds = [Fold(0, (), (), (Segment(3, 12),)), Fold(1, (), (), (Segment(12, 18), Segment(24, 30)))]
    baselines = fold_baselines(context, folds, PARAMETERS)  # no train rows, so no ridge
    assert [[(rows, list(rules)) for rows, rules in of_fold] for of_fold in baselines] == [
        [(Segment(3, 12), ["regime_rule"])],
        [(Segment(12, 18), ["regime_rule"]), (Segment(24, 30), ["regime_rule"])],
    ]
    assert baselines[0][0][1]["regime_rule"].levels.eq(1.0).all()
    assert baselines[1][1][1]["regime_rule"].levels.eq(0.0).all()


def test_folds_laid_end_to_end_are_one_schedule_that_is_flat_in_between() -> None:
    def piece(level: float, rows: int) -> dict[str, ScheduledPolicy]:
        due = torch.zeros(rows, dtype=torch.bool)
        due[0] = True
        return {"rule": ScheduledPolicy(torch.full((rows, 1), level), due)}

    folds = [[(Segment(5, 8), piece(1.0, 3))], [(Segment(8, 10), piece(-1.0, 2)), (Segment(12, 14), piece(0.5, 2))]]
    policy = concatenate_schedules(folds, Segment(5, 14))["rule"]
    assert policy.levels.flatten().tolist() == [1.0, 1.0, 1.0, -1.0, -1.0, 0.0, 0.0, 0.5, 0.5]
    assert (~policy.hold).flatten().nonzero().flatten().tolist() == [0, 3, 5, 7]
    assert concatenate_schedules([[(Segment(5, 14), {})]], Segment(5, 14)) == {}
