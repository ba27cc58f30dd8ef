"""The two ways to learn from windows: from accounts that sample actions, or from all actions of all positions.

A learner draws all that is random first. What it computes then depends on its arguments alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.all_action import grid_loss
from sentio_kedro.agent.ppo.compiled import Loss, shared_loss
from sentio_kedro.agent.ppo.constraints import TailFound, TailState
from sentio_kedro.agent.ppo.grid.positions import GridDraws, PositionGrid, draw_grid, position_grid
from sentio_kedro.agent.ppo.grid.values import GridTargets, evaluate_grid
from sentio_kedro.agent.ppo.rollout import Rollout, RolloutDraws, collect, draw_rollout
from sentio_kedro.agent.ppo.update import (
    Coefficients,
    SampledTargets,
    UpdateReport,
    estimate_targets,
    minibatch_loss,
    value_scale,
)
from sentio_kedro.config import AgentParameters

Draws = TypeVar("Draws")
Experience = TypeVar("Experience")
Targets = TypeVar("Targets")


class Estimate(NamedTuple, Generic[Targets]):
    """Estimates from one experience.

    Attributes:
        targets: Targets of the loss.
        reward: Mean reward under the policy before the update, 0-d.
        valid_steps: ``[W]`` steps of each window at which accounts were alive; None where all steps count.
        tail: What the episodes say about the price of risk; None without a limit on the tail.
    """

    targets: Targets
    reward: Tensor
    valid_steps: Tensor | None = None
    tail: TailFound | None = None


class Learner(Protocol[Draws, Experience, Targets]):
    """A way to learn from windows. All methods but ``draw`` are pure."""

    def draw(self, windows: Windows, generator: torch.Generator) -> Draws:
        """Draw all that is random in an experience, on the windows' device."""
        ...

    def collect(self, network: PolicyNetwork, windows: Windows, draws: Draws) -> Experience:
        """Collect experience."""
        ...

    def estimate(
        self, network: PolicyNetwork, windows: Windows, experience: Experience, draws: Draws, tail: TailState | None
    ) -> Estimate[Targets]:
        """Estimate the targets of the loss; ``tail`` is the state of the limit on the tail, None without one."""
        ...

    def loss(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: Experience,
        targets: Targets,
        index: Tensor,
        coefficients: Coefficients,
    ) -> tuple[Tensor, UpdateReport]:
        """Loss and its parts of the windows ``index`` ``[w]`` under the current weights."""
        ...


@dataclass(frozen=True)
class SamplingLearner:
    """Simulates R sampling accounts along each window and learns from their advantages.

    Attributes:
        parameters: The sections that shape the agent.
        loss_function: ``minibatch_loss``, eager or compiled.
    """

    parameters: AgentParameters
    loss_function: Loss = minibatch_loss

    def draw(self, windows: Windows, generator: torch.Generator) -> RolloutDraws:
        """Draw starts, action noise and, if the critic learns distributions, its quantiles and stops."""
        training, actions = self.parameters.training, len(self.parameters.trading.levels)
        quantiles = self.parameters.network.quantiles if training.critic_target == "distribution" else None
        return draw_rollout(windows, training.replicas, actions, generator, quantiles)

    def collect(self, network: PolicyNetwork, windows: Windows, draws: RolloutDraws) -> Rollout:
        """Let the accounts trade."""
        return collect(network, windows, draws, value_scale(self.parameters.training.gamma), self.parameters.trading)

    def estimate(
        self, network: PolicyNetwork, windows: Windows, experience: Rollout, draws: RolloutDraws, tail: TailState | None
    ) -> Estimate[SampledTargets]:
        """Estimate advantages; the configuration refuses a limit on the tail here."""
        targets = estimate_targets(experience, self.parameters.training, draws.stop)
        return Estimate(targets, experience.rewards.mean(), experience.alive.sum((0, 2, 3)))

    def loss(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: Rollout,
        targets: SampledTargets,
        index: Tensor,
        coefficients: Coefficients,
    ) -> tuple[Tensor, UpdateReport]:
        """Loss of the actions that were taken."""
        return self.loss_function(network, windows, experience, targets, index, self.parameters.training, coefficients)


@dataclass(frozen=True)
class AllActionLearner:
    """Opens accounts on every position of each window and learns from all their actions.

    Attributes:
        parameters: The sections that shape the agent.
        loss_function: ``grid_loss``, eager or compiled.
    """

    parameters: AgentParameters
    loss_function: Loss = grid_loss

    def draw(self, windows: Windows, generator: torch.Generator) -> GridDraws:
        """Draw the grid."""
        return draw_grid(windows, len(self.parameters.trading.levels), generator)

    def collect(self, network: PolicyNetwork, windows: Windows, draws: GridDraws) -> PositionGrid:
        """Execute every action from every position; the policy is not used."""
        return position_grid(windows, self.parameters.trading, draws)

    def estimate(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: PositionGrid,
        draws: GridDraws,
        tail: TailState | None,
    ) -> Estimate[GridTargets]:
        """Value every position and action."""
        targets = evaluate_grid(network, windows, experience, self.parameters.training, tail)
        reward = (targets.log_probabilities.exp() * experience.rewards).sum(-1).mean()
        return Estimate(targets, reward, tail=targets.tail)

    def loss(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: PositionGrid,
        targets: GridTargets,
        index: Tensor,
        coefficients: Coefficients,
    ) -> tuple[Tensor, UpdateReport]:
        """Loss of all actions."""
        return self.loss_function(network, windows, experience, targets, index, self.parameters.training, coefficients)


def make_learner(parameters: AgentParameters, device: torch.device | None = None) -> Learner[Any, Any, Any]:
    """Return the learner of ``training.advantages``; its loss is compiled as ``training.compile`` says."""
    training = parameters.training
    if training.advantages == "all_action":
        return AllActionLearner(parameters, shared_loss(grid_loss, training, device))
    return SamplingLearner(parameters, shared_loss(minibatch_loss, training, device))
