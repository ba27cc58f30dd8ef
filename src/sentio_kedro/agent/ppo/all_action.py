"""All-action loss: every action of every position on the grid, weighted by its probability."""

from __future__ import annotations

from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.distributions import divergence, masked_log_probabilities
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.grid.positions import PositionGrid
from sentio_kedro.agent.ppo.grid.values import GridTargets
from sentio_kedro.agent.ppo.losses import clipped_surrogate, critic_loss
from sentio_kedro.agent.ppo.update import Coefficients, UpdateReport, weighted_loss
from sentio_kedro.config import TrainingParameters


def grid_loss(
    network: PolicyNetwork,
    windows: Windows,
    grid: PositionGrid,
    targets: GridTargets,
    index: Tensor,
    parameters: TrainingParameters,
    coefficients: Coefficients | None = None,
) -> tuple[Tensor, UpdateReport]:
    """Loss of the windows ``index`` under the current weights, and its parts.

    The clipped surrogate of every action is weighted with its probability under the old policy.
    """
    embedding = windows.embedded_decisions(network.encoder, index)
    posterior = windows.posterior[:-1, index]
    hidden = network.head.hidden(network.head.project(embedding, posterior), grid.account[:-1, index])
    permitted = network.head.permitted(grid.legal[:, index])
    new = masked_log_probabilities(network.head.logits(hidden, posterior), permitted)
    old = targets.log_probabilities[:, index]
    surrogate = clipped_surrogate(new - old, targets.advantages[:, index], parameters.clip)
    policy_loss = (old.exp() * surrogate).sum(-1).mean()
    # one replica is enough for the critic: its level is random in each window and asset
    quantiles = network.head.quantiles(hidden[:, :, 0])
    value_loss = critic_loss(quantiles, targets.returns[:, index, 0]).mean()
    kl = divergence(old, new if parameters.divergence.coefficient else new.detach())
    terms = policy_loss, value_loss, network.head.closeness(new).mean(), kl.mean()
    return weighted_loss(*terms, parameters, coefficients or Coefficients.first(parameters, policy_loss))
