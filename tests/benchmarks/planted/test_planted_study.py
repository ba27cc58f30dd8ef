"""A planted market ready to train on: what training may see, what is judged, and at which costs. Nothing is trained."""

from dataclasses import replace

import numpy as np
import pytest

from planted.catalogue import MARKETS
from planted.judgement import share_of_optimum
from planted.study import (
    PlantedStudy,
    asset_levels,
    prepare_study,
    proportional_cost,
    ridge_reference,
)
from sentio_kedro.config import (
    AgentParameters,
    CostParameters,
    FeatureColumn,
    FeatureParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
    TrainingParameters,
)

FEATURES = FeatureParameters(columns=[FeatureColumn(name="return_1", indicator="log_return")])
REGIMES = RegimeParameters(states=1, memory=16)
PARAMETERS = AgentParameters(
    NetworkParameters(), TrainingParameters(), TradingParameters(costs=CostParameters(commission_bps=1.5))
)


def prepared(name: str, train: int = 3_000, test: int = 600) -> PlantedStudy:
    market = replace(MARKETS[name], train_bars=train, test_bars=test)
    return prepare_study(market, 0, FEATURES, REGIMES, PARAMETERS)


def test_training_ends_before_the_judged_rows_begin() -> None:
    training_set = prepared("lead_lag")
    (test,) = training_set.fold.test
    assert test.stop - test.start == pytest.approx(600, abs=1)
    assert len(training_set.training.bars.timestamps) <= test.start + 1
    assert training_set.training.bars.close == pytest.approx(
        training_set.bars.close[: len(training_set.training.bars.timestamps)]
    )
    assert test.stop < len(training_set.path.returns)  # the last judged row has a next return
    assert training_set.test_rows_of(training_set.path.means).shape == (test.stop - test.start, 2)


def test_a_market_brings_the_columns_that_show_its_signal() -> None:
    training_set = prepared("signal")
    assert [column.name for column in training_set.training.columns] == ["return_1", "volume_surprise_480"]
    (test,) = training_set.fold.test
    shown, means = (
        training_set.features[test.start : test.stop, 0, 1],
        training_set.test_rows_of(training_set.path.means)[:, 0],
    )
    assert np.corrcoef(shown, means)[0, 1] > 0.9


def test_costs_and_levels_are_those_of_the_accounts() -> None:
    trading = TradingParameters(
        levels=[-1.0, 0.0, 0.5, 1.0], gross_limit=0.8, max_position=0.3, costs=CostParameters(commission_bps=1.5)
    )
    assert proportional_cost(trading) == pytest.approx(2.5e-4)
    assert asset_levels(trading, 4).tolist() == pytest.approx([-0.2, 0.0, 0.1, 0.2])
    assert asset_levels(trading, 1).tolist() == pytest.approx([-0.3, 0.0, 0.3, 0.3])


def test_the_reference_earns_on_a_linear_law() -> None:
    training_set = prepared("reversal", train=8_000)
    law = MARKETS["reversal"].law
    optimum = training_set.test_rows_of(law.optimum(training_set.path, training_set.cost, training_set.levels))
    assert (
        share_of_optimum(
            ridge_reference(training_set),
            optimum,
            training_set.test_rows_of(training_set.path.means),
            training_set.cost,
        )
        > 0.9
    )
