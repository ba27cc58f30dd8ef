"""The two ways to learn: what an experience was worth."""

from collections.abc import Callable

import torch

from sentio_kedro.agent.data.windows import cut_windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.learners import make_learner
from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def test_windows_weigh_by_the_steps_that_their_accounts_lived_through(lively: Build, market: Markets) -> None:
    training = TrainingParameters(advantages="sampled", windows=2, minibatches=1)
    parameters = AgentParameters(NetworkParameters(), training, TradingParameters())
    network, learner = lively(), make_learner(parameters)
    windows = cut_windows(market(), torch.tensor([10, 20]), 5, 8, parameters.trading)
    draws = learner.draw(windows, torch.Generator().manual_seed(0))
    experience = learner.collect(network, windows, draws)
    alive = experience.alive.clone()
    alive[2:, 1, 3] = 0.0  # one of eight accounts, with two assets, dies after two of five steps
    found = learner.estimate(network, windows, experience._replace(alive=alive), draws, None).valid_steps
    assert found is not None
    assert found.tolist() == [5.0 * 8 * 2, 5.0 * 8 * 2 - 3 * 2]
