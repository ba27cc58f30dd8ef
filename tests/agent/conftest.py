"""A small market, a small network, and one thread, for the tests of the agent package."""

from collections.abc import Callable

import pytest
import torch
from tests.agent.awake import awaken

from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import PolicyNetwork, build_network
from sentio_kedro.config import NetworkParameters
from sentio_kedro.market.tensors import MarketTensors

DOUBLE = torch.float64
SIZES = NetworkParameters(width=8, layers=2, heads=2, window=4, convolution=3, hidden=8, quantiles=5)


def random_market(bars: int = 40, assets: int = 2, features: int = 3, regimes: int = 2, seed: int = 0) -> MarketTensors:
    """Random walks that open with a gap, in float64."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draws, dtype=DOUBLE)

    close = 100.0 * (0.01 * normal(bars, assets)).cumsum(0).exp()
    before = torch.cat([close[:1], close[:-1]])
    return MarketTensors(
        features=normal(bars, assets, features),
        open=before * (0.003 * normal(bars, assets)).exp(),
        close=close,
        tradable=torch.ones(bars, assets, dtype=torch.bool),
        volatility=0.005 + 0.01 * torch.rand((bars, assets), generator=draws, dtype=DOUBLE),
        posterior=normal(bars, regimes).softmax(-1),
    )


def lively_network(
    assets: int = 2, features: int = 3, regimes: int = 2, actions: int = 3, seed: int = 0, **sizes: int
) -> PolicyNetwork:
    """A float64 network whose layers, policy and critic are far from their nearly constant start."""
    parameters = NetworkParameters(**{**vars(SIZES), **sizes}) if sizes else SIZES
    shape = NetworkShape(features, assets, regimes, actions)
    network = build_network(parameters, shape, torch.Generator().manual_seed(seed)).to(DOUBLE)
    awaken(network, seed)
    with torch.no_grad():
        network.head.policy.weight.mul_(300.0)
        network.head.critic.weight.mul_(10.0)
    return network


@pytest.fixture(autouse=True)
def _tiny_tensors(one_thread: None) -> None:
    """Tiny tensors wake no other thread."""


@pytest.fixture(name="market", scope="session")
def market_fixture() -> Callable[..., MarketTensors]:
    """The function that makes small markets."""
    return random_market


@pytest.fixture(name="lively", scope="session")
def lively_fixture() -> Callable[..., PolicyNetwork]:
    """The function that makes small networks with opinions."""
    return lively_network
