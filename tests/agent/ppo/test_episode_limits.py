"""Limits on the worst episodes in training: a bandit whose law is known, with and without them.

Prices are redrawn for every update, and what an asset is called is all that the network sees of it. So there is nothing
to learn but how much of each asset to hold.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.agent.ppo.constraints import TailMonitor
from sentio_kedro.agent.ppo.update import Coefficients
from sentio_kedro.agent.training.lifecycle import Learned
from sentio_kedro.agent.training.member import Member
from sentio_kedro.agent.training.timing import Phases
from sentio_kedro.agent.training.trainer import learn
from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

NETWORK = NetworkParameters(encoder="mlp", width=4, heads=1, hidden=8, quantiles=1, regime_experts=False)
TRADING = TradingParameters(
    levels=[0.0, 0.25, 0.5, 0.75, 1.0],
    gross_limit=2.0,
    net_limit=1.0,
    costs={"commission_bps": 0, "half_spread_bps": 0},  # type: ignore[arg-type]
)
EVERY = pytest.mark.parametrize("advantages", ["all_action", "sampled"])


def crashing(bars: int, draws: torch.Generator) -> Tensor:
    """Log returns ``[bars, 2]`` with the same mean, of which the second crashes once in fifty bars."""
    returns = 1e-3 + 2e-3 * torch.randn(bars, 2, generator=draws)
    returns[:, 1] += 6e-4 - 0.03 * (torch.rand(bars, generator=draws) < 1 / 50)
    return returns


def risky(bars: int, draws: torch.Generator) -> Tensor:
    """Log returns ``[bars, 2]`` of which the second earn four times as much and vary ten times as much."""
    return torch.tensor([5e-4, 2e-3]) + torch.tensor([1e-3, 1e-2]) * torch.randn(bars, 2, generator=draws)


def windows_of(returns: Tensor, steps: int) -> Windows:
    """Windows on prices without gaps."""
    bars = len(returns)
    close = 100.0 * returns.cumsum(0).exp()
    market = MarketTensors(
        features=torch.eye(2).expand(bars, 2, 2).contiguous(),  # which asset it is
        open=torch.cat([close[:1], close[:-1]]),
        close=close,
        tradable=torch.ones(bars, 2, dtype=torch.bool),
        volatility=torch.full((bars, 2), 5e-3),
        posterior=torch.ones(bars, 1),
    )
    return cut_windows(market, torch.arange(0, bars - 1, steps), steps, 0, TRADING)


def parameters_of(advantages: str, **changes: Any) -> AgentParameters:
    given = {"windows": 64, "replicas": 8, "episode_bars": 8, "minibatches": 1, "gamma": 0.5, "entropy": 0.5} | changes
    return AgentParameters(NETWORK, TrainingParameters(advantages=advantages, **given), TRADING)  # type: ignore[arg-type]


class Bandit:
    """A member that learns from paths of one law."""

    def __init__(self, law: Callable[[int, torch.Generator], Tensor], parameters: AgentParameters) -> None:
        training = parameters.training
        network = build_network(NETWORK, NetworkShape(2, 2, 1, 5), torch.Generator().manual_seed(0))
        like = next(network.parameters()).detach()
        self.law, self.parameters = law, parameters
        self.member = Member(
            network,
            torch.optim.AdamW(network.parameters(), lr=0.02),
            like.new_tensor(0.0),
            TailMonitor(training.tail, like),
        )
        self.coefficients = Coefficients.first(training, like)
        self.draws = torch.Generator().manual_seed(0)

    def update(self, index: int) -> Learned:
        """Learn from the paths of ``index``, whatever was drawn before."""
        training = self.parameters.training
        bars = training.windows * training.episode_bars + 1
        windows = windows_of(self.law(bars, torch.Generator().manual_seed(index)), training.episode_bars)
        phases = Phases(torch.device("cpu"))
        return learn(self.member, windows, self.parameters, self.coefficients, self.draws, phases)

    def train(self, updates: int) -> list[dict[str, float]]:
        """Return what the monitors found after each update, and the mean of its episodes' log returns."""
        rows = []
        for index in range(updates):
            learned = self.update(index)
            assert learned.outcomes is not None
            row = self.member.tail.observe(learned.outcomes)
            rows.append(row | {"growth": learned.outcomes.mean().item()})
        return rows


def mean(rows: Sequence[dict[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


@EVERY
def test_a_limit_that_never_binds_trains_to_the_same_bits_as_none(advantages: str) -> None:
    free = Bandit(risky, parameters_of(advantages))
    bound = Bandit(risky, parameters_of(advantages, tail={"limit": 9.0, "pool": 400}))
    for index in range(6):
        free.update(index)
    bound.train(6)
    assert bound.member.tail.state() is not None
    assert bound.member.tail.dual == 0.0
    weights = free.member.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in bound.member.network.state_dict().items())


def test_a_slack_limit_drives_its_dual_variable_to_zero() -> None:
    bandit = Bandit(risky, parameters_of("sampled", tail={"limit": 0.2, "pool": 400}))
    bandit.member.tail.dual.fill_(1.0)
    duals = [row["tail_dual"] for row in bandit.train(12)]
    assert duals[0] < 1.0
    assert all(later < earlier or later == 0.0 for earlier, later in pairwise(duals))
    assert duals[-1] == 0.0


LIMITS = {"sampled": 0.018, "all_action": 0.015}  # about three quarters of the tail without a limit


@EVERY
def test_a_limit_that_binds_is_met_within_a_tenth_at_a_penalty(advantages: str) -> None:
    limit = LIMITS[advantages]
    bandit = Bandit(risky, parameters_of(advantages, tail={"limit": limit, "step": 0.1}))
    rows = bandit.train(120)[-60:]
    assert -mean(rows, "episode_tail") == pytest.approx(limit, rel=0.1)
    assert mean(rows, "tail_dual") > 0.1  # without one it would not be met


def last_rows(advantages: str, limit: float, **changes: float) -> list[dict[str, float]]:
    """The end of a training on two assets that earn the same."""
    parameters = parameters_of(advantages, entropy=0.3, tail={"limit": limit} | changes)
    return Bandit(crashing, parameters).train(80)[-40:]


@EVERY
def test_of_two_assets_with_the_same_mean_the_one_with_the_thin_tail_is_held(advantages: str) -> None:
    free = last_rows(advantages, 9.0)
    worst = abs(mean(free, "episode_tail"))
    bound = last_rows(advantages, 2.0 / 3.0 * worst, step=0.1)
    assert abs(mean(bound, "episode_tail")) < 0.75 * worst
    assert mean(bound, "growth") > 0.95 * mean(free, "growth")
