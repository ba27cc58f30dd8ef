"""Members side by side learn what each learns alone, and none of them notices the others."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.member import AgentParameters, Member, MemberKey, snapshot
from sentio_kedro.agent.paths import TrainingSet
from sentio_kedro.agent.schedules import count_updates
from sentio_kedro.agent.stacked import Task, train_members_together
from sentio_kedro.agent.trainer import train_member
from sentio_kedro.config import (
    DivergenceParameters,
    FeatureColumn,
    NetworkParameters,
    ResamplingParameters,
    TailParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.aligned import AlignedBars
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.regimes import RegimeModel
from sentio_kedro.market.splits import Fold, Segment

CPU, DOUBLE = torch.device("cpu"), torch.float64
COLUMNS = [FeatureColumn(name="r", indicator="log_return")]
NETWORK = NetworkParameters(width=4, heads=1, window=4, convolution=2, hidden=4, quantiles=3, dropout=0.25)
PLAIN = TrainingParameters(
    members=2, total_steps=4 * 3 * 8 * 20, windows=4, replicas=3, episode_bars=8, minibatches=2, validations=2,
    learning_rate=0.03, checkpoint_updates=5, resampling=ResamplingParameters(block_bars=20), device="cpu",
)  # fmt: skip
EVERYTHING = replace(
    PLAIN, windows=16, total_steps=16 * 3 * 8 * 20, epochs=2, accumulation=2, averaging=0.9, weight_decay=0.01,
    critic_target="distribution", least_entropy=0.01, tail=TailParameters(limit=0.02, pool=400),
    divergence=DivergenceParameters(coefficient=0.5, target=1e-3, max_kl=4e-3, halvings=2),
)  # fmt: skip
KEYS = [MemberKey(0, 0, 0), MemberKey(0, 0, 1), MemberKey(0, 1, 0), MemberKey(1, 0, 0)]


class Memory:
    """Keeps checkpoints and what was reported, and may stop the training after a number of reports."""

    def __init__(self, reports: int | None = None) -> None:
        self.saved: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {}
        self.heard: list[tuple[MemberKey, int]] = []
        self.reports = reports

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self.saved.get(key)

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        copied = dict(state) | {"curve": [dict(row) for row in state["curve"]]}
        self.saved[key] = ({name: value.detach().clone() for name, value in tensors.items()}, copied)

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        self.heard.append((key, update))
        if len(self.heard) == self.reports:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Stop nothing."""


@cache
def study(number: int) -> TrainingSet:
    """Two assets whose prices go on as they went; fold 1 has other bars, more of them, and pays dividends."""
    bars = 260 + 30 * number
    rng, moves = np.random.default_rng(number), np.zeros((bars, 2))
    for row in range(1, bars):
        moves[row] = 0.4 * moves[row - 1] + 0.01 * rng.standard_normal(2)
    close = 100.0 * np.exp(np.cumsum(moves, axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    stamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(bars) * np.timedelta64(30, "m")
    paid = np.where(np.arange(bars) % 10 == 9, 0.05, 0.0)[:, None] * np.ones(2) if number else None
    aligned = AlignedBars(
        stamps, ("A", "B"), opened, np.maximum(opened, close), np.minimum(opened, close), close, np.ones((bars, 2)),
        dividend=paid,
    )  # fmt: skip
    regimes = RegimeModel(np.zeros(2), np.array([0.005, 0.02]), np.full((2, 2), 0.5), np.full(2, 0.5), memory=4)
    fold = Fold(number, (Segment(20, bars - 90),), (Segment(bars - 80, bars - 2),), ())
    return TrainingSet(fold, aligned, compute_features(aligned, COLUMNS), COLUMNS, regimes, 17520.0)


def parameters(training: TrainingParameters, network: NetworkParameters = NETWORK) -> AgentParameters:
    return AgentParameters(network, training, TradingParameters(max_drawdown=0.5))


def tasks(keys: list[MemberKey]) -> list[Task]:
    return [Task(study(key.fold), key, study(key.fold).market().to(CPU, DOUBLE)) for key in keys]


def together(how: AgentParameters, keys: list[MemberKey] = KEYS, memory: Memory | None = None) -> list[Member]:
    memory = memory or Memory()
    return train_members_together(tasks(keys), how, memory, memory)


def alone(how: AgentParameters, key: MemberKey, memory: Memory | None = None) -> Member:
    memory, (task,) = memory or Memory(), tasks([key])
    return train_member(task.study, key, how, task.market, memory, memory)


def assert_same(one: Member, other: Member, tolerance: float = 1e-8) -> None:
    """All that a checkpoint keeps is the same: weights, moments, averages, dual variable, pool, scores, curve."""
    (tensors, state), (others, other_state) = snapshot(one), snapshot(other)
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(value, others[name], rtol=tolerance, atol=tolerance, msg=name, check_dtype=True)
    assert state["done"] == other_state["done"]
    for row, other_row in zip(state["curve"], other_state["curve"], strict=True):
        assert row.keys() == other_row.keys()
        for name in row.keys() - {name for name in row if "second" in name or name == "peak_gigabytes"}:
            assert row[name] == pytest.approx(other_row[name], rel=1e-6, abs=tolerance, nan_ok=True), name


@pytest.mark.parametrize("advantages", ["all_action", "sampled"])
@pytest.mark.parametrize("training", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_stacked_equals_alone(training: TrainingParameters, advantages: str) -> None:
    how = parameters(replace(training, advantages=advantages))
    for key, member in zip(KEYS, together(how), strict=True):
        assert member.done == count_updates(how) == 20
        assert_same(member, alone(how, key))
