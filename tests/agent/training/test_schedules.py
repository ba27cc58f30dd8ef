"""Number of updates, learning rate, and early stopping."""

from dataclasses import replace

import pytest

from sentio_kedro.agent.training.schedules import converged, count_updates, learning_rate
from sentio_kedro.config import (
    AgentParameters,
    NetworkParameters,
    StoppingParameters,
    TradingParameters,
    TrainingParameters,
)

TRAINING = TrainingParameters(total_steps=480, windows=4, replicas=2, episode_bars=10, minibatches=2)
PARAMETERS = AgentParameters(NetworkParameters(), TRAINING, TradingParameters())


def test_the_schedule_falls_from_its_peak_to_a_twentieth() -> None:
    assert learning_rate(TRAINING, 0, 100) == TRAINING.learning_rate
    assert learning_rate(TRAINING, 100, 100) == pytest.approx(TRAINING.learning_rate / 20)


def test_training_has_converged_once_patience_brings_no_better_score() -> None:
    curve = [{"update": 1.0}, *({"validation_sharpe": score} for score in (1.0, 2.0, 1.5, 2.05))]
    assert not converged(curve, StoppingParameters())
    assert not converged(curve[:3], StoppingParameters(patience=1))
    assert converged(curve[:4], StoppingParameters(patience=1))
    assert not converged(curve, StoppingParameters(patience=2))
    assert converged(curve, StoppingParameters(patience=2, margin=0.1))


def test_steps_pay_for_updates() -> None:
    assert count_updates(PARAMETERS) == 480 // (4 * 3 * 10)  # three levels, one replica each
    sampled = AgentParameters(NetworkParameters(), replace(TRAINING, advantages="sampled"), TradingParameters())
    assert count_updates(sampled) == 480 // (4 * 2 * 10)
