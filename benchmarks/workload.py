"""The standard workload of the learner, and a large one: market, sizes, one update. Read by other benchmarks.

One asset, a path of 8,192 bars of 30 minutes in sessions of thirteen, 8 features, window 64, width 64, 2 layers, 4
heads, levels -1, 0 and 1, 32 quantiles; 16 windows x R replicas x 128 steps a rollout, 4 epochs x 4 minibatches.

The learner ``enhanced`` has every term of the objective: quantiles learn the distribution of lambda-returns, the other
replicas of a path are the baseline, a divergence penalty whose coefficient adapts, and an entropy bonus. It trades with
the preset ``realistic``: commission, half spread, impact, borrow, financing and funding; participation, margin, joint
limits and the layers of the mask, over three regimes. The learner ``plain`` is sampled proximal policy optimisation
with a path baseline and proportional costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows, path_facts
from sentio_kedro.agent.network.encoder import NetworkShape, receptive_field
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.agent.ppo.constraints import first_tail
from sentio_kedro.agent.ppo.losses import adapted_coefficient
from sentio_kedro.agent.ppo.update import Coefficients
from sentio_kedro.agent.training.member import Member
from sentio_kedro.agent.training.timing import Phases
from sentio_kedro.agent.training.trainer import learn
from sentio_kedro.config import (
    AgentParameters,
    DivergenceParameters,
    NetworkParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.tensors import MarketTensors

BARS, FEATURES, STEPS, WINDOWS, SIGMA = 8192, 8, 128, 16, 0.004
SESSION, REGIMES, LEVELS = 13, 3, (-1.0, 0.0, 1.0)
NETWORK = NetworkParameters(width=64, layers=2, heads=4, window=64, quantiles=32, hidden=64)
PLAIN_TRADING = TradingParameters(levels=list(LEVELS))
REALISTIC_TRADING = TradingParameters(preset="realistic", levels=list(LEVELS))


class Workload(NamedTuple):
    """Sizes and parameters of a training, and its market.

    Attributes:
        parameters: Network, training and trading.
        market: The path.
    """

    parameters: AgentParameters
    market: MarketTensors

    @property
    def shape(self) -> NetworkShape:
        """Sizes that the market fixes."""
        market = self.market
        actions = len(self.parameters.trading.levels)
        return NetworkShape(market.features.shape[2], market.assets, market.posterior.shape[1], actions)


def random_market(bars: int = BARS, features: int = FEATURES, regimes: int = REGIMES) -> MarketTensors:
    """Random walk with random features and every fact that the preset ``realistic`` reads."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    returns = normal(bars, 1) * SIGMA
    close = 50.0 * returns.cumsum(0).exp()
    volume = 1e6 * (0.5 + torch.rand(bars, 1, generator=generator))
    bar, elapsed = torch.arange(bars) % SESSION, torch.full((bars,), 1.0 / 48.0)
    elapsed[bar == 0] += 17.5 / 24.0
    volatility = SIGMA * (0.5 + torch.rand(bars, 1, generator=generator))
    return MarketTensors(
        features=normal(bars, 1, features),
        open=torch.cat([close[:1], close[:-1]]) * (1.0 + 0.2 * SIGMA * normal(bars, 1)),
        close=close,
        tradable=torch.ones(bars, 1, dtype=torch.bool),
        volatility=volatility,
        posterior=normal(bars, regimes).softmax(-1),
        volume=volume,
        returns=returns,
        daily_volatility=volatility * SESSION**0.5,
        daily_volume=volume * SESSION,
        elapsed=elapsed,
        session=torch.arange(bars) // SESSION,
        funding=1e-5 * normal(bars, 1),
    )


def standard_workload(learner: str = "enhanced", replicas: int = 16, compiled: bool = False) -> Workload:
    """The standard workload of a learner; ``plain`` trades at proportional costs in one regime."""
    training = TrainingParameters(
        advantages="sampled",
        windows=WINDOWS,
        replicas=replicas,
        episode_bars=STEPS,
        epochs=4,
        minibatches=4,
        path_baseline=replicas > 1,
        learning_rate=1e-3,
        compile="always" if compiled else "never",
    )
    if learner == "plain":
        return Workload(AgentParameters(NETWORK, training, PLAIN_TRADING), random_market(regimes=1))
    training = replace(
        training,
        critic_target="distribution",
        divergence=DivergenceParameters(coefficient=0.5),
    )
    return Workload(AgentParameters(NETWORK, training, REALISTIC_TRADING), random_market())


def seed_workload(precision: str = "float32", compiled: bool = False) -> Workload:
    """A large network on long windows: 8 windows x 16 replicas x 1,000 bars, each window with its full context."""
    start, _ = standard_workload(compiled=compiled)
    network = replace(start.network, width=512, layers=6, heads=8, window=120, precision=precision, quantiles=51)
    training = replace(start.training, windows=8, episode_bars=1000)
    return Workload(AgentParameters(network, training, start.trading), random_market())


class LearningRun:
    """A member in training on random windows of a workload's path."""

    def __init__(self, workload: Workload, device: torch.device) -> None:
        """Build the member."""
        self.parameters, self.device = workload.parameters, device
        self.market = workload.market.to(device, torch.float32)
        self.facts = path_facts(workload.market, self.parameters.trading)
        training = self.parameters.training
        network = build_network(self.parameters.network, workload.shape, torch.Generator().manual_seed(2)).to(device)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, eps=1e-5, weight_decay=0.0, fused=True
        )
        like = next(network.parameters()).detach()
        penalty = like.new_tensor(training.divergence.coefficient)
        self.member = Member(network, optimiser, penalty, first_tail(like))
        self.generator = torch.Generator(device).manual_seed(1)

    def windows(self) -> Windows:
        """Cut random windows."""
        training, context = self.parameters.training, receptive_field(self.parameters.network) - 1
        latest = self.market.bars - training.episode_bars - 1
        starts = torch.randint(context, latest, (training.windows,), generator=self.generator, device=self.device)
        trading = self.parameters.trading
        return cut_windows(self.market, starts, training.episode_bars, context, trading, self.facts)

    def update(self) -> dict[str, float]:
        """Roll out and learn, as ``trainer`` does; return the seconds of each phase and the peak memory."""
        training, member = self.parameters.training, self.member
        coefficients = Coefficients(member.penalty.new_tensor(training.entropy), member.penalty)
        phases = Phases(self.device)
        windows = self.windows()
        phases.end("paths")
        learned = learn(member, windows, self.parameters, coefficients, self.generator, phases)
        member.penalty = adapted_coefficient(member.penalty, learned.report.kl, training.divergence)
        if not bool(torch.isfinite(learned.report.policy_loss)):
            raise FloatingPointError("The loss is not finite: the workload does not measure a learner.")
        return phases.row()

    def optimiser_steps(self) -> int:
        """Optimiser steps taken so far."""
        return int(next(iter(self.member.optimiser.state.values()))["step"])
