"""The two ways to learn from windows: by accounts that sample, or from all actions of all positions.

A learner draws all that is random first. What it computes then is a pure function of tensors: the same for a network
that trains alone and, under ``torch.vmap``, for many side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.all_action import GridDraws, draw_grid, position_grid
from sentio_kedro.agent.ppo.compiled import EAGER, HotFunctions
from sentio_kedro.agent.ppo.constraints import TailState, log_growth
from sentio_kedro.agent.ppo.grid_values import GridTargets, evaluate_grid
from sentio_kedro.agent.ppo.grid_walks import PositionGrid
from sentio_kedro.agent.ppo.rollout import Rollout, RolloutDraws, collect, draw_rollout
from sentio_kedro.agent.ppo.update import Coefficients, Targets, UpdateReport, targets, value_scale
from sentio_kedro.config import AgentParameters
from sentio_kedro.trading.action_masks import where_chosen


class Appraisal(NamedTuple):
    """What an experience was worth.

    Attributes:
        learned: What the loss learns from.
        reward: Mean reward under the policy that gathered it, 0-d; not a number if a decision had no legal action.
        outcomes: Log returns ``[W, R]`` of the episodes that were simulated; None where none was.
        living: ``[W]`` steps that accounts lived through in each window; None where all lived through all.
    """

    learned: Any
    reward: Tensor
    outcomes: Tensor | None
    living: Tensor | None = None


class Learner(Protocol):
    """How a network learns from windows. All methods but ``draw`` are pure."""

    def draw(self, windows: Windows, generator: torch.Generator) -> Any:
        """Draw all that is random in an experience, on the windows' device."""
        ...

    def gather(self, network: PolicyNetwork, windows: Windows, draws: Any) -> Any:
        """Gather experience."""
        ...

    def appraise(
        self, network: PolicyNetwork, windows: Windows, experience: Any, draws: Any, tail: TailState | None
    ) -> Appraisal:
        """Say what it was worth, with the penalty of the ``tail``."""
        ...

    def loss(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: Any,
        learned: Any,
        index: Tensor,
        coefficients: Coefficients,
    ) -> tuple[Tensor, UpdateReport]:
        """Judge the windows ``index`` ``[w]`` under the current weights: the loss, and its parts."""
        ...


@dataclass(frozen=True)
class SamplingLearner:
    """Walks R sampling accounts along each window and learns from their advantages.

    Attributes:
        parameters: The sections that shape the agent.
        functions: Functions that take most of the time, eager or compiled.
    """

    parameters: AgentParameters
    functions: HotFunctions = EAGER

    def draw(self, windows: Windows, generator: torch.Generator) -> RolloutDraws:
        """Draw starts, noise and, if the critic learns distributions, what is drawn of them."""
        training, actions = self.parameters.training, 1 + len(self.parameters.trading.levels)
        quantiles = self.parameters.network.quantiles if training.critic_target == "distribution" else None
        return draw_rollout(windows, training.replicas, actions, generator, quantiles)

    def gather(self, network: PolicyNetwork, windows: Windows, draws: RolloutDraws) -> Rollout:
        """Let the accounts trade."""
        scale, trading = value_scale(self.parameters.training.gamma), self.parameters.trading
        return collect(network, windows, draws, scale, trading, self.functions.step)

    def appraise(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: Rollout,
        draws: RolloutDraws,
        tail: TailState | None,
    ) -> Appraisal:
        """Estimate advantages; each decision pays the penalty of its episode's own shortfall."""
        training = self.parameters.training
        outcomes = log_growth((experience.rewards * windows.unit).sum(-1)).sum(0)  # [W, R]
        penalty = None
        if tail is not None:
            penalty = tail.penalty(outcomes, training.tail.alpha)[None, ..., None] / windows.unit
            penalty = penalty.expand_as(experience.rewards)
        return Appraisal(
            targets(experience, training, draws.stop, penalty),
            where_chosen(experience.rewards.mean(), experience.legal),
            outcomes,
            experience.alive.sum((0, 2, 3)),
        )

    def loss(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: Rollout,
        learned: Targets,
        index: Tensor,
        coefficients: Coefficients,
    ) -> tuple[Tensor, UpdateReport]:
        """Judge the actions that were taken."""
        training = self.parameters.training
        return self.functions.sampled_loss(network, windows, experience, learned, index, training, coefficients)


@dataclass(frozen=True)
class AllActionLearner:
    """Stands accounts on every position of each window and learns from all their actions.

    Attributes:
        parameters: The sections that shape the agent.
        functions: Functions that take most of the time, eager or compiled.
    """

    parameters: AgentParameters
    functions: HotFunctions = EAGER

    def draw(self, windows: Windows, generator: torch.Generator) -> GridDraws:
        """Draw the grid."""
        return draw_grid(windows, len(self.parameters.trading.levels), generator)

    def gather(self, network: PolicyNetwork, windows: Windows, draws: GridDraws) -> PositionGrid:
        """Execute every action from every position; no policy is asked."""
        return position_grid(windows, self.parameters.trading, draws)

    def appraise(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: PositionGrid,
        draws: GridDraws,
        tail: TailState | None,
    ) -> Appraisal:
        """Value every position and action."""
        learned = evaluate_grid(network, windows, experience, self.parameters.training, tail)
        reward = (learned.log_probabilities.exp() * experience.rewards).sum(-1).mean()
        return Appraisal(learned, where_chosen(reward, experience.legal), learned.outcomes)

    def loss(
        self,
        network: PolicyNetwork,
        windows: Windows,
        experience: PositionGrid,
        learned: GridTargets,
        index: Tensor,
        coefficients: Coefficients,
    ) -> tuple[Tensor, UpdateReport]:
        """Judge all actions."""
        training = self.parameters.training
        return self.functions.grid_loss(network, windows, experience, learned, index, training, coefficients)


def make_learner(parameters: AgentParameters, functions: HotFunctions = EAGER) -> Learner:
    """Return the learner of ``training.advantages``, with its hot functions eager or compiled."""
    if parameters.training.advantages == "all_action":
        return AllActionLearner(parameters, functions)
    return SamplingLearner(parameters, functions)
