"""The allocator takes the settings, and training does not fill the memory."""

import gc
import platform
import sys
from collections.abc import Mapping
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.training.allocator import keep_freed_memory
from sentio_kedro.agent.training.member import MemberKey
from sentio_kedro.agent.training.trainer import train_member
from sentio_kedro.config import (
    AgentParameters,
    CrossValidationParameters,
    DivergenceParameters,
    FeatureColumn,
    IngestionParameters,
    NetworkParameters,
    RegimeParameters,
    TailParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.folds import make_folds
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Spans
from sentio_kedro.market.regimes import fit_regimes, market_return

BARS, UPDATES, CPU = 700, 1000, torch.device("cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_glibc_takes_the_settings() -> None:
    assert keep_freed_memory() is True


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


class Watch:
    """A store that keeps nothing, and a listener that weighs the process after some updates."""

    def __init__(self, after: tuple[int, ...]) -> None:
        self.after, self.bytes = after, dict[int, int]()

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None: ...

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        if update in self.after:
            gc.collect()
            self.bytes[update] = psutil.Process().memory_info().rss

    def stop(self) -> None: ...


def small_study() -> TrainingSet:
    bars = align_bars(planted_bars(autoregressive_returns(BARS, 0.3, 0.01, seed=1)), IngestionParameters())
    columns = [FeatureColumn(name="r", indicator="log_return")]
    fold = make_folds(BARS, Spans(110, 1, 10), CrossValidationParameters(folds=1, first_test=0.7, lockbox=None))[0]
    model = fit_regimes([market_return(bars)], RegimeParameters(states=2, memory=16, restarts=1, iterations=5), seed=0)
    return TrainingSet(fold, bars, compute_features(bars, columns), columns, model, 365.0)


@pytest.mark.slow
@pytest.mark.parametrize("advantages", ["all_action", "sampled"])
def test_a_thousand_updates_take_no_more_memory_than_two_hundred(advantages: str) -> None:
    """Rows of the curve grow, by a kilobyte or two each; experience and graphs of an update must not stay."""
    keep_freed_memory()
    levels = len(TradingParameters().levels)
    training = TrainingParameters(
        advantages=advantages, windows=2, replicas=levels, episode_bars=3, minibatches=1, epochs=1, validations=1,
        critic_target="distribution" if advantages == "sampled" else "mean",
        divergence=DivergenceParameters(coefficient=0.5, max_kl=0.5),
        tail=TailParameters(limit=0.05 if advantages == "all_action" else None),
        block_bars=None, device="cpu",
        total_steps=UPDATES * 2 * 3 * levels,
    )  # fmt: skip
    network = NetworkParameters(encoder="mlp", width=4, heads=1, hidden=4, quantiles=3)
    last = UPDATES - 1  # the validation after the last update loads the compiled walk
    training_set, watch = small_study(), Watch((200, last))
    parameters = AgentParameters(network, training, TradingParameters())
    train_member(training_set, MemberKey(0, 0, 0), parameters, watch, watch)
    grown = watch.bytes[last] - watch.bytes[200]
    assert grown < 6 << 20
