"""Limits on the worst episodes in training: a bandit whose law is known, with and without them.

Prices are redrawn for every update, and what an asset is called is all that the network sees of it. So there is nothing
to learn but how much of each asset to hold.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import cut_windows
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.agent.ppo.constraints import first_tail
from sentio_kedro.agent.ppo.losses import tail_of
from sentio_kedro.agent.ppo.update import Coefficients
from sentio_kedro.agent.training.lifecycle import describe_update
from sentio_kedro.agent.training.member import Member, MemberKey
from sentio_kedro.agent.training.timing import Phases
from sentio_kedro.agent.training.trainer import learn
from sentio_kedro.agent.training.validation import account_returns
from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors

NETWORK = NetworkParameters(encoder="mlp", width=4, heads=1, hidden=8, quantiles=1, regime_experts=False)
TRADING = TradingParameters(
    levels=[0.0, 0.25, 0.5, 0.75, 1.0],
    gross_limit=2.0,
    net_limit=1.0,
    costs={"commission_bps": 0, "half_spread_bps": 0},  # type: ignore[arg-type]
)


def crashing(bars: int, draws: torch.Generator) -> Tensor:
    """Log returns ``[bars, 2]`` with the same mean, of which the second crashes once in fifty bars."""
    returns = 1e-3 + 2e-3 * torch.randn(bars, 2, generator=draws)
    returns[:, 1] += 6e-4 - 0.03 * (torch.rand(bars, generator=draws) < 1 / 50)
    return returns


def risky(bars: int, draws: torch.Generator) -> Tensor:
    """Log returns ``[bars, 2]`` of which the second earn four times as much and vary ten times as much."""
    return torch.tensor([5e-4, 2e-3]) + torch.tensor([1e-3, 1e-2]) * torch.randn(bars, 2, generator=draws)


def market_of(returns: Tensor) -> MarketTensors:
    """Prices without gaps."""
    bars = len(returns)
    close = 100.0 * returns.cumsum(0).exp()
    return MarketTensors(
        features=torch.eye(2).expand(bars, 2, 2).contiguous(),  # which asset it is
        open=torch.cat([close[:1], close[:-1]]),
        close=close,
        tradable=torch.ones(bars, 2, dtype=torch.bool),
        volatility=torch.full((bars, 2), 5e-3),
        posterior=torch.ones(bars, 1),
    )


def parameters_of(**changes: Any) -> AgentParameters:
    given = {"windows": 64, "episode_bars": 8, "minibatches": 1, "gamma": 0.5, "entropy": 0.5} | changes
    return AgentParameters(NETWORK, TrainingParameters(**given), TRADING)  # type: ignore[arg-type]


class Bandit:
    """A member that learns from paths of one law."""

    def __init__(self, law: Callable[[int, torch.Generator], Tensor], parameters: AgentParameters) -> None:
        training = parameters.training
        network = build_network(NETWORK, NetworkShape(2, 2, 1, 5), torch.Generator().manual_seed(0))
        like = next(network.parameters()).detach()
        self.law, self.parameters = law, parameters
        self.member = Member(
            network, torch.optim.AdamW(network.parameters(), lr=0.02), like.new_tensor(0.0), first_tail(like)
        )
        self.coefficients = Coefficients.first(training, like)
        self.draws = torch.Generator().manual_seed(0)

    def market(self, index: int) -> MarketTensors:
        """The paths of ``index``, whatever was drawn before."""
        training = self.parameters.training
        bars = training.windows * training.episode_bars + 1
        return market_of(self.law(bars, torch.Generator().manual_seed(index)))

    def starts(self) -> range:
        """First rows of the windows."""
        training = self.parameters.training
        return range(0, training.windows * training.episode_bars, training.episode_bars)

    def update(self, index: int) -> dict[str, float]:
        """Learn from the paths of ``index``; return the metrics."""
        steps, starts = self.parameters.training.episode_bars, torch.tensor(self.starts())
        phases, windows = Phases(torch.device("cpu")), cut_windows(self.market(index), starts, steps, 0, TRADING)
        learned = learn(self.member, windows, self.parameters, self.coefficients, self.draws, phases)
        row = describe_update(self.member, MemberKey(0, 0, 0), self.parameters, self.coefficients, learned)
        self.member.updates_done += 1
        return row

    def traded(self, index: int) -> tuple[float, float]:
        """CVaR and mean of the log returns that greedy accounts have on the paths of ``index``."""
        steps = self.parameters.training.episode_bars
        rows = [Segment(start, start + steps) for start in self.starts()]
        returns = account_returns([self.member.network], self.market(index), rows, 0, TRADING)
        outcomes = returns.log1p().view(-1, steps).sum(1)
        return tail_of(outcomes, 0.05)[1].item(), outcomes.mean().item()


def trained(law: Callable[[int, torch.Generator], Tensor], updates: int, **changes: Any) -> Bandit:
    bandit = Bandit(law, parameters_of(**changes))
    for index in range(updates):
        bandit.update(index)
    return bandit


def measured(bandit: Bandit) -> tuple[float, float]:
    """Means of ``traded`` over fresh paths."""
    tails, means = zip(*(bandit.traded(index) for index in range(1000, 1020)), strict=True)
    return sum(tails) / len(tails), sum(means) / len(means)


def test_a_limit_that_never_binds_trains_to_the_same_bits_as_none() -> None:
    free, bound = trained(risky, 6), trained(risky, 6, tail={"limit": 9.0})
    assert bound.member.tail.price == 0.0
    weights = free.member.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in bound.member.network.state_dict().items())


def test_a_price_that_is_not_needed_falls() -> None:
    bandit = Bandit(risky, parameters_of(tail={"limit": 0.2}))
    bandit.member.tail = bandit.member.tail._replace(price=torch.tensor(1.0))
    bandit.member.updates_done = 2
    assert bandit.update(0)["tail_price"] == 1.0  # the one that the update has learnt with
    assert bandit.update(1)["tail_price"] == pytest.approx(0.5)  # 2 / 4 of the way to 0
    assert bandit.member.tail.price.item() == pytest.approx(0.5 * 0.6)


def test_a_limit_that_binds_is_met_at_a_price_and_leaves_more_of_the_profit_than_of_the_tail() -> None:
    free = measured(trained(risky, 60))
    bandit = trained(risky, 60, tail={"limit": -0.5 * free[0]})
    tail, mean = measured(bandit)
    assert tail > 0.5 * free[0]
    assert mean > 0.6 * free[1]
    assert bandit.member.tail.price > 0.1  # without one it would not be met


def test_of_two_assets_with_the_same_mean_the_one_with_the_thin_tail_is_held() -> None:
    free = measured(trained(crashing, 60, entropy=0.3))
    tail, mean = measured(trained(crashing, 60, entropy=0.3, tail={"limit": -2.0 / 3.0 * free[0]}))
    assert tail > 0.75 * free[0]
    assert mean > 0.95 * free[1]
