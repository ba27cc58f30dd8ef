"""It learns, and it does not cheat: small budgets here, the full ones in benchmarks/learning.py."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter

from planted.catalogue import MARKETS
from planted.study import Forgetful, LearningResult, measure_learning
from sentio_kedro.config import (
    AgentParameters,
    CostParameters,
    FeatureParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
    TrainingParameters,
)

CONFIGURATION = Path(__file__).parents[3] / "conf" / "base"
NOBODY = Forgetful()


def learn(market: str, seed: int, **training: object) -> LearningResult:
    """Train the default agent, with fewer members and the planted market's costs."""
    raw = yaml.safe_load((CONFIGURATION / "parameters_features.yml").read_text())
    raw |= yaml.safe_load((CONFIGURATION / "parameters_training.yml").read_text())
    costs = CostParameters(commission_bps=1, half_spread_bps=1)
    parameters = AgentParameters(
        TypeAdapter(NetworkParameters).validate_python(raw["network"] | {"variant": "enhanced"}),
        replace(TypeAdapter(TrainingParameters).validate_python(raw["training"] | {"variant": "enhanced"}), **training),
        TradingParameters(costs=costs),
    )
    features = TypeAdapter(FeatureParameters).validate_python(raw["features"])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure_learning(MARKETS[market], seed, features, RegimeParameters(), parameters, NOBODY, NOBODY)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_the_default_agent_finds_most_of_a_planted_signal() -> None:
    shares: list[float] = []
    while sum(share >= 0.75 for share in shares) < 2:  # of three, so that their median is
        assert len(shares) < 3, shares
        shares.append(learn("ar1", len(shares)).share_of_optimum)


@pytest.mark.slow
def test_on_noise_the_gross_profit_is_nothing() -> None:
    gross = np.concatenate([learn("noise", seed, members=1, total_steps=60_000).gross for seed in range(3)])
    assert gross.std() > 0.0  # it does trade
    assert abs(gross.mean()) <= 1.96 * gross.std(ddof=1) / len(gross) ** 0.5
