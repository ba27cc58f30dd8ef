"""Agents: performance before the test rows, and the abstention gate."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.training.abstention import mean_t_statistic
from sentio_kedro.agent.training.member import MemberKey
from sentio_kedro.agent.training.population import train_agent
from sentio_kedro.agent.training.validation import account_returns, recent_train_rows
from sentio_kedro.config import (
    AgentParameters,
    FeatureColumn,
    NetworkParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.market.regimes import RegimeModel
from sentio_kedro.trading.performance import sharpe_ratio

NETWORK = NetworkParameters(width=4, heads=1, window=4, convolution=2, hidden=4, quantiles=3)
TRAINING = TrainingParameters(
    members=2, total_steps=480, windows=4, replicas=2, episode_bars=10, minibatches=2, validations=2,
    learning_rate=0.05, block_bars=20, device="cpu", workers=1,
)  # fmt: skip
COLUMNS = [FeatureColumn(name="r", indicator="log_return")]
SPANS = Spans(input=receptive_field(NETWORK) + 20, reward=1, episode=10)


class Nowhere:
    """Stores no checkpoints and ignores progress."""

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Store nothing."""

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Ignore it."""

    def stop(self) -> None:
        """Stop nothing."""


@cache
def training_set() -> TrainingSet:
    """Prices that go on as they went, 500 bars, the last 150 of them to validate on."""
    rng, returns = np.random.default_rng(0), np.zeros((501, 1))
    for row in range(500):
        returns[row + 1] = 0.5 * returns[row] + 0.01 * rng.standard_normal()
    close = 100.0 * np.exp(np.cumsum(returns, axis=0))
    opened = np.vstack([[[100.0]], close[:-1]])
    timestamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(501) * np.timedelta64(30, "m")
    bars = AlignedBars(
        timestamps, ("A",), opened, np.maximum(opened, close), np.minimum(opened, close), close, np.ones((501, 1))
    )
    one = np.ones(1)
    regimes = RegimeModel(0.0 * one, 0.01 * one, np.ones((1, 1)), one, memory=4)
    fold = Fold(3, (Segment(30, 340),), (Segment(350, 500),), ())
    return TrainingSet(fold, bars, compute_features(bars, COLUMNS), COLUMNS, regimes, 17520.0)


def train(training_set: TrainingSet, abstention: float | None) -> tuple[AgentBundle, dict[str, float]]:
    parameters = AgentParameters(NETWORK, replace(TRAINING, abstention=abstention), TradingParameters())
    agent, _, about = train_agent(training_set, 1, SPANS, parameters, Nowhere(), Nowhere(), {})
    return agent, about


@cache
def trained(threshold: float | None) -> tuple[AgentBundle, dict[str, float]]:
    return train(training_set(), threshold)


def returns_of(agent: AgentBundle, rows: list[Segment]) -> Tensor:
    """Returns of the agent's members on ``rows``, one account over each segment."""
    market = training_set().market_on(torch.device("cpu"), torch.float32)
    networks, facts, context = agent.networks(torch.float32), training_set().facts, receptive_field(NETWORK) - 1
    return account_returns(networks, market, rows, context, TradingParameters(), facts)


def test_validation_t_is_the_t_statistic_of_the_validation_returns() -> None:
    agent, about = trained(None)
    validation = returns_of(agent, list(training_set().fold.validation))
    assert len(validation) == 150
    assert validation.std() > 1e-3
    assert (
        agent.spec.validation_t == about["validation_t"] == pytest.approx(mean_t_statistic(validation).item(), abs=1e-6)
    )
    assert agent.spec.validation_sharpe == pytest.approx(float(sharpe_ratio(validation, 17520.0)), abs=1e-6)
    train = float(sharpe_ratio(returns_of(agent, recent_train_rows(training_set())), 17520.0))
    assert agent.spec.train_sharpe == pytest.approx(train, abs=1e-6)
    assert about["generalisation_gap"] == about["train_sharpe"] - about["validation_sharpe"]


def test_without_a_threshold_no_agent_abstains() -> None:
    agent, about = trained(None)
    assert not agent.spec.abstains
    assert not about["abstains"]
    assert math.isnan(about["abstention_threshold"])


def test_the_gate_closes_unless_validation_t_exceeds_the_threshold_and_changes_no_weight(
    caplog: pytest.LogCaptureFixture,
) -> None:
    validation_t = trained(None)[0].spec.validation_t
    caplog.clear()  # the first training logs its own line
    with caplog.at_level(logging.INFO, logger="sentio_kedro.agent.training.population"):
        opened, closed = trained(validation_t - 0.01), trained(validation_t + 0.01)
    assert [agent.spec.abstains for agent, _ in (opened, closed)] == [False, True]
    assert [about["abstains"] for _, about in (opened, closed)] == [False, True]
    assert closed[1]["abstention_threshold"] == validation_t + 0.01
    for member, other in zip(opened[0].weights, closed[0].weights, strict=True):
        assert all(torch.equal(member[name], other[name]) for name in member)
    lines = [record.getMessage() for record in caplog.records]
    assert sum(f"validation t {validation_t:.2f}" in line for line in lines) == 2
    (told,) = [line for line in lines if "abstains" in line]
    assert told.startswith("Fold 3, seed 1 abstains and stays flat")
    assert f"{validation_t + 0.01:g}" in told
