"""A planted market ready to train on: what training may see, what is judged, and at which costs. Nothing is trained."""

from dataclasses import replace

import numpy as np
import pytest

from planted.catalogue import MARKETS
from planted.scores import share_of_optimum
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
    study = prepared("lead_lag")
    (test,) = study.fold.test
    assert test.stop - test.start == pytest.approx(600, abs=1)
    assert len(study.training.bars.timestamps) <= test.start + 1
    assert study.training.bars.close == pytest.approx(study.bars.close[: len(study.training.bars.timestamps)])
    assert test.stop < len(study.path.returns)  # the last judged row has a next return
    assert study.test_rows_of(study.path.means).shape == (test.stop - test.start, 2)


def test_a_market_brings_the_columns_that_show_its_signal() -> None:
    study = prepared("signal")
    assert [column.name for column in study.training.columns] == ["return_1", "volume_surprise_480"]
    (test,) = study.fold.test
    shown, means = study.features[test.start : test.stop, 0, 1], study.test_rows_of(study.path.means)[:, 0]
    assert np.corrcoef(shown, means)[0, 1] > 0.9


def test_costs_and_levels_are_those_of_the_accounts() -> None:
    trading = TradingParameters(
        levels=[-1.0, 0.0, 0.5, 1.0], gross_limit=0.8, max_position=0.3, costs=CostParameters(commission_bps=1.5)
    )
    assert proportional_cost(trading) == pytest.approx(2.5e-4)
    assert asset_levels(trading, 4).tolist() == pytest.approx([-0.2, 0.0, 0.1, 0.2])
    assert asset_levels(trading, 1).tolist() == pytest.approx([-0.3, 0.0, 0.3, 0.3])


def test_the_reference_earns_on_a_linear_law() -> None:
    study = prepared("reversal", train=8_000)
    law = MARKETS["reversal"].law
    optimum = study.test_rows_of(law.optimum(study.path, study.cost, study.levels))
    means = study.test_rows_of(study.path.means)
    assert share_of_optimum(ridge_reference(study), optimum, means, study.cost) > 0.9
