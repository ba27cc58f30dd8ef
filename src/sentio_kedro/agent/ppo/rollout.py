"""Rollouts: accounts that sample their actions along windows, for training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.distributions import (
    gumbel_noise,
    masked_logits,
    normalised,
    sample_actions,
)
from sentio_kedro.agent.network.network import Head, PolicyNetwork
from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import AccountState, Decision
from sentio_kedro.trading.action_masks import decode, level_tensor
from sentio_kedro.trading.observations import account_features, asset_rewards, start_accounts
from sentio_kedro.trading.position_limits import PositionLimits, position_limits
from sentio_kedro.trading.simulate import Advance, PolicyTrace, advance, simulate


class RolloutDraws(NamedTuple):
    """All random draws of a rollout, so that the rollout is a pure function of tensors.

    Attributes:
        noise: ``[S, W, R, A, actions]`` standard Gumbel noise of the actions.
        start: ``[W, R, A]`` index of the level that each account starts with.
        quantile: ``[S, W, R, A]`` which quantile of the critic is drawn of the state after each step; None draws none.
        stop: ``[S, W, R, A]`` uniform, decides where sampled returns stop; None with ``quantile``.
    """

    noise: Tensor
    start: Tensor
    quantile: Tensor | None = None
    stop: Tensor | None = None


def draw_rollout(
    windows: Windows, replicas: int, actions: int, generator: torch.Generator, quantiles: int | None = None
) -> RolloutDraws:
    """Draw the random parts of ``collect``.

    Args:
        windows: W windows of S decisions.
        replicas: R accounts per window.
        actions: Number of actions, HOLD included.
        generator: Source of the draws, on the windows' device.
        quantiles: Quantiles of the critic, to draw from its distributions; None draws none.
    """
    close = windows.step_data.close
    after, count, _, assets = close.shape
    accounts = (count, replicas, assets)
    path = (after - 1, *accounts)
    noise = gumbel_noise((*path, actions), generator, close)
    start = torch.randint(actions, accounts, generator=generator, device=close.device)
    if quantiles is None:
        return RolloutDraws(noise, start)
    quantile = torch.randint(quantiles, path, generator=generator, device=close.device)
    return RolloutDraws(noise, start, quantile, torch.rand(path, generator=generator, device=close.device))


class Rollout(NamedTuple):
    """Experience of W x R accounts over S steps. Layout ``[S, W, R, A, ...]``.

    Attributes:
        account: ``[..., G]`` account features at the decisions.
        legal: ``[..., actions]``.
        action: Actions taken.
        log_probabilities: ``[..., actions]`` of the policy that acted.
        values: Mean of the critic's quantiles, in units of reward.
        bootstrap: ``[W, R, A]`` value of the state after the last step.
        rewards: Net profit per asset, in units of one bar's volatility.
        alive: 1 where the account lived at the decision.
        survived: 1 where it still lived after the step.
        drawn: A draw from the critic's distribution of the state after each step, units of reward; None without draws.
    """

    account: Tensor
    legal: Tensor
    action: Tensor
    log_probabilities: Tensor
    values: Tensor
    bootstrap: Tensor
    rewards: Tensor
    alive: Tensor
    survived: Tensor
    drawn: Tensor | None = None


class SamplingPolicy:
    """Samples from one member; its trace is the experience of the update."""

    def __init__(
        self, head: Head, projected: Tensor, posterior: Tensor, noise: Tensor, parameters: TradingParameters
    ) -> None:
        """Take the head, its projected embeddings ``[S + 1, W, 1, A, hidden]``, posteriors and Gumbel noise."""
        self.head, self.projected, self.posterior, self.noise = head, projected, posterior, noise
        self.parameters = parameters
        self.levels = level_tensor(parameters, projected)

    @property
    def inputs(self) -> PolicyTrace:
        """Projected embeddings, posteriors and noise of each decision."""
        return self.projected[:-1], self.posterior[:-1], self.noise

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        """Sample one action per asset; remember account features, mask, action, logits, hidden layer and life."""
        projected, posterior, noise = inputs
        features = account_features(account, limits, self.parameters)
        hidden = self.head.hidden(projected, features)
        logits = masked_logits(self.head.logits(hidden, posterior), self.head.permitted(legal))
        action = sample_actions(logits, noise)
        return decode(action, self.levels), (features, legal, action, logits, hidden, account.alive)


@torch.no_grad()
def collect(
    network: PolicyNetwork,
    windows: Windows,
    draws: RolloutDraws,
    value_scale: float,
    parameters: TradingParameters,
    step: Advance = advance,
) -> Rollout:
    """Let R accounts per window trade by sampling. Pure.

    Args:
        network: The member.
        windows: W windows of S decisions.
        draws: Start positions and noise of the actions, in which alone the accounts of a window differ; and draws from
            the critic's distributions, if any.
        value_scale: Units of reward per unit of the critic's output.
        parameters: Limits and costs.
        step: The step to take; ``compiled.CompiledStep`` is a faster one.

    Returns:
        The rollout.
    """
    step_data = windows.decisions
    projected = network.head.project(windows.embedded(network.encoder), windows.posterior)
    policy = SamplingPolicy(network.head, projected, windows.posterior, draws.noise, parameters)
    start = start_accounts(draws.start, step_data.close[0], policy.levels, parameters)
    end, (fill, trace) = simulate(step_data, policy, start, parameters, step=step)

    features = account_features(end, position_limits(end, windows.step_data.step(-1), parameters), parameters)
    behind = network.head.hidden(projected[-1], features)
    bootstrap = network.head.value(behind) * value_scale
    account, legal, action, logits, hidden, alive = trace
    values = network.head.value(hidden)
    log_probabilities = normalised(logits)
    survived = torch.cat([alive[1:], end.alive[None]])
    dtype = projected.dtype
    drawn = None
    if draws.quantile is not None:
        drawn = draw_of(network.head, torch.cat([hidden[1:], behind[None]]), draws.quantile) * value_scale
    alive = alive[..., None].to(dtype).expand_as(values)
    return Rollout(
        account=account,
        legal=legal,
        action=action,
        log_probabilities=log_probabilities,
        values=values * value_scale,
        bootstrap=bootstrap,
        rewards=asset_rewards(fill, windows.unit) * alive,
        alive=alive,
        survived=survived[..., None].to(dtype).expand_as(values),
        drawn=drawn,
    )


def draw_of(head: Head, hidden: Tensor, quantile: Tensor) -> Tensor:
    """Take the quantile of the critic that ``quantile`` ``[...]`` names, of each state ``[..., hidden]``: ``[...]``."""
    return head.quantiles(hidden).gather(-1, quantile[..., None])[..., 0]
