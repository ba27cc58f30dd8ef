"""Baselines of a fold: the regime rule, and folds laid end to end."""

from types import SimpleNamespace

import numpy as np
import torch

from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines.by_fold import concatenate_schedules, fold_baselines, regime_rule
from sentio_kedro.market.purged_folds import Fold, Segment

STAMPS = np.datetime64("2020-01-01T08:00", "ns") + np.arange(60) * np.timedelta64(8, "h")
PARAMETERS = BacktestParameters(baselines=["ridge", "regime_rule"], rebalance_days=7)
TRADING = TradingParameters()


def likeliest(states: list[int], count: int = 3) -> torch.Tensor:
    return 0.1 + 0.7 * torch.nn.functional.one_hot(torch.tensor(states), count).double()


def orders(targets: np.ndarray) -> dict[int, list[float]]:
    """Targets by the rows that order some."""
    return {row: targets[row].tolist() for row in np.flatnonzero(~np.isnan(targets).all(axis=1)).tolist()}


def test_the_regime_rule_is_flat_where_the_most_volatile_regime_is_the_likeliest_at_the_days_look() -> None:
    states = [0, 2, 0, 1, 1, 2, 2, 2, 0, 2, 0, 0, 0, 0, 0]  # three bars a day
    targets = regime_rule(likeliest(states), STAMPS[:15], 2, PARAMETERS, TRADING)
    assert orders(targets) == {0: [0.5, 0.5], 6: [0.0, 0.0], 12: [0.5, 0.5]}


def test_the_regime_rule_restores_equal_weights_and_starts_flat_in_a_crisis() -> None:
    always = regime_rule(likeliest([0] * 60), STAMPS, 1, PARAMETERS, TRADING)
    assert orders(always) == {0: [1.0], 21: [1.0], 42: [1.0]}
    crisis = regime_rule(likeliest([2] * 60), STAMPS, 1, PARAMETERS, TRADING)
    assert orders(crisis) == {0: [0.0], 21: [0.0], 42: [0.0]}


def test_one_regime_is_a_calm_one() -> None:
    assert orders(regime_rule(torch.ones(9, 1).double(), STAMPS[:9], 1, PARAMETERS, TRADING)) == {0: [1.0]}


def test_each_fold_follows_its_own_filter_at_its_own_rows() -> None:
    posteriors = {0: likeliest([0] * 60), 1: likeliest([2] * 60)}
    context = SimpleNamespace(
        posteriors=lambda fold: [posteriors[fold]],
        bars=SimpleNamespace(timestamps=STAMPS),
        market=SimpleNamespace(assets=1),
        trading=TRADING,
    )
    folds = [Fold(0, (), (), (Segment(3, 12),)), Fold(1, (), (), (Segment(12, 18), Segment(24, 30)))]
    baselines = fold_baselines(context, folds, PARAMETERS)  # no train rows, so no ridge
    assert [[(rows, list(rules)) for rows, rules in of_fold] for of_fold in baselines] == [
        [(Segment(3, 12), ["regime_rule"])],
        [(Segment(12, 18), ["regime_rule"]), (Segment(24, 30), ["regime_rule"])],
    ]
    assert orders(baselines[0][0][1]["regime_rule"]) == {0: [1.0]}
    assert orders(baselines[1][1][1]["regime_rule"]) == {0: [0.0]}


def test_folds_laid_end_to_end_are_one_schedule_that_is_flat_in_between() -> None:
    def piece(target: float, rows: int) -> dict[str, np.ndarray]:
        return {"rule": np.array([[target], *[[np.nan]] * (rows - 1)])}

    folds = [[(Segment(5, 8), piece(1.0, 3))], [(Segment(8, 10), piece(-1.0, 2)), (Segment(12, 14), piece(0.5, 2))]]
    targets = concatenate_schedules(folds, Segment(5, 14))["rule"]
    assert orders(targets) == {0: [1.0], 3: [-1.0], 5: [0.0], 7: [0.5]}
    assert concatenate_schedules([[(Segment(5, 14), {})]], Segment(5, 14)) == {}
