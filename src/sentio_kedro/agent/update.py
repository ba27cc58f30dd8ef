"""One update of proximal policy optimisation from one rollout."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.advantages import generalised_advantages, leave_one_out
from sentio_kedro.agent.distributions import divergence, entropy, masked_log_probabilities
from sentio_kedro.agent.losses import clipped_surrogate, quantile_huber
from sentio_kedro.agent.networks import PolicyNetwork
from sentio_kedro.agent.rollout import Rollout, Windows
from sentio_kedro.config import TrainingParameters

REPLICAS = 2  # dimension of the replicas in [S, W, R, A]
KAPPA = 0.02  # width of the Huber loss, in units of the critic's output


class Targets(NamedTuple):
    """What an update learns from, each ``[S, W, R, A]``: advantages, and returns in units of the critic."""

    advantages: Tensor
    returns: Tensor


class UpdateReport(NamedTuple):
    """Means over the last pass of an update; 0-d tensors, so that nothing waits for the device."""

    policy_loss: Tensor
    value_loss: Tensor
    entropy: Tensor
    kl: Tensor
    gradient_norm: Tensor


def value_scale(gamma: float) -> float:
    """Standard deviation of discounted sums of unit-variance rewards: 1 / sqrt(1 - gamma^2)."""
    return float((1.0 - gamma * gamma) ** -0.5)


def targets(rollout: Rollout, parameters: TrainingParameters) -> Targets:
    """Estimate advantages, with the market-path baseline if wanted, and the critic's targets."""
    advantages = generalised_advantages(
        rollout.rewards, rollout.values, rollout.bootstrap, rollout.survived, parameters.gamma, parameters.gae_lambda
    )
    returns = (advantages + rollout.values) / value_scale(parameters.gamma)
    if parameters.path_baseline:
        advantages = leave_one_out(advantages, rollout.alive, REPLICAS)
    return Targets(advantages, returns)


def minibatch_loss(
    network: PolicyNetwork,
    windows: Windows,
    rollout: Rollout,
    learned: Targets,
    index: Tensor,
    parameters: TrainingParameters,
) -> tuple[Tensor, UpdateReport]:
    """Judge the windows ``index`` under the current weights.

    The bars are encoded again, with gradient; each embedding serves every replica of its window.

    Returns:
        The loss, and its parts.
    """
    steps = rollout.rewards.shape[0]
    embedding = network.encoder(windows.features[index, :-1], steps).transpose(0, 1)[:, :, None]
    posterior = windows.posterior[:-1, index]
    projected = network.head.project(embedding, posterior)
    hidden = network.head.hidden(projected, rollout.account[:, index])
    new = masked_log_probabilities(network.head.logits(hidden, posterior), rollout.legal[:, index])
    old = rollout.log_probabilities[:, index]
    taken = rollout.action[:, index, ..., None]
    log_ratio = (new - old).gather(-1, taken)[..., 0]

    alive = rollout.alive[:, index]
    count = alive.sum().clamp_min(1.0)
    policy_loss = (clipped_surrogate(log_ratio, learned.advantages[:, index], parameters.clip) * alive).sum() / count
    value_loss = (
        quantile_huber(network.head.quantiles(hidden), learned.returns[:, index], KAPPA) * alive
    ).sum() / count
    bonus = (entropy(new) * alive).sum() / count
    loss = policy_loss + parameters.value * value_loss - parameters.entropy * bonus
    kl = (divergence(old, new.detach()) * alive).sum() / count
    return loss, UpdateReport(policy_loss.detach(), value_loss.detach(), bonus.detach(), kl, kl)


def update(
    network: PolicyNetwork,
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[Tensor], tuple[Tensor, UpdateReport]],
    windows: int,
    parameters: TrainingParameters,
    generator: torch.Generator,
) -> UpdateReport:
    """Improve ``network`` by ``epochs`` passes over W windows in minibatches of whole windows.

    Args:
        network: The member.
        optimiser: Over its weights.
        loss_of: Loss and its parts of the windows in an index ``[w]``.
        windows: Number of windows W.
        parameters: Passes, minibatches and largest gradient.
        generator: Source of the order, on the network's device.

    Returns:
        Means over the last pass.
    """
    reports: list[UpdateReport] = []
    for epoch in range(parameters.epochs):
        order = torch.randperm(windows, generator=generator, device=generator.device)
        for index in order.chunk(parameters.minibatches):
            loss, report = loss_of(index)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), parameters.gradient_norm)
            optimiser.step()
            if epoch == parameters.epochs - 1:
                reports.append(report._replace(gradient_norm=norm.detach()))
    return UpdateReport(*(torch.stack(column).mean() for column in zip(*reports, strict=True)))
