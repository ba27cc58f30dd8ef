"""One update of proximal policy optimisation from one rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.distributions import divergence, entropy, masked_log_probabilities
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.advantages import generalised_advantages, leave_one_out, sampled_returns
from sentio_kedro.agent.ppo.losses import clipped_surrogate, critic_loss
from sentio_kedro.agent.ppo.rollout import Rollout
from sentio_kedro.agent.ppo.trust_region import TrustRegion
from sentio_kedro.config import TrainingParameters

REPLICAS = 2  # dimension of the replicas in [S, W, R, A]


class SampledTargets(NamedTuple):
    """Targets of an update from sampled accounts, each ``[S, W, R, A]``.

    Attributes:
        advantages: Advantages of the actions, in units of reward.
        returns: Targets of the critic, in units of the critic.
    """

    advantages: Tensor
    returns: Tensor


class UpdateReport(NamedTuple):
    """Means over the last pass of an update; 0-d tensors, so that nothing waits for the device.

    Attributes:
        policy_loss: The policy's loss.
        value_loss: The critic's loss.
        entropy: Entropy of the policy per asset, nats.
        kl: Divergence of the new policy from the old, nats.
        gradient_norm: Norm of the gradient before it is clipped.
    """

    policy_loss: Tensor
    value_loss: Tensor
    entropy: Tensor
    kl: Tensor
    gradient_norm: Tensor


def value_scale(gamma: float) -> float:
    """Standard deviation of discounted sums of unit-variance rewards: 1 / sqrt(1 - gamma^2)."""
    return float((1.0 - gamma * gamma) ** -0.5)


class Coefficients(NamedTuple):
    """Weights of the terms that change from update to update, 0-d tensors.

    Attributes:
        entropy: Of the entropy bonus.
        divergence: Of the divergence penalty.
    """

    entropy: Tensor
    divergence: Tensor

    @classmethod
    def first(cls, parameters: TrainingParameters, like: Tensor) -> Coefficients:
        """Weights at the start of training, on the device and in the dtype of ``like``."""
        return cls(like.new_tensor(parameters.entropy), like.new_tensor(parameters.divergence.coefficient))


def estimate_targets(
    rollout: Rollout,
    parameters: TrainingParameters,
    stop: Tensor | None = None,
) -> SampledTargets:
    """Estimate advantages, less the market-path baseline if it is on, and the critic's targets.

    Args:
        rollout: Experience.
        parameters: Discount, lambda, baseline and target of the critic.
        stop: ``[S, W, R, A]`` uniform draws of a ``RolloutDraws``, which ``critic_target: distribution`` needs.
    """
    path = (rollout.rewards, rollout.values, rollout.bootstrap, rollout.survived)
    advantages = generalised_advantages(*path, parameters.gamma, parameters.gae_lambda)
    returns = advantages + rollout.values
    if parameters.critic_target == "distribution":
        if rollout.drawn is None or stop is None:
            raise ValueError(
                "`rollout.drawn` must hold draws of the critic, and `stop` be given, for `critic_target: distribution`."
            )
        returns = sampled_returns(
            rollout.rewards, rollout.drawn, stop >= parameters.gae_lambda, rollout.survived, parameters.gamma
        )
    if parameters.path_baseline:
        advantages = leave_one_out(advantages, rollout.alive, REPLICAS)
    return SampledTargets(advantages, returns / value_scale(parameters.gamma))


def minibatch_loss(
    network: PolicyNetwork,
    windows: Windows,
    rollout: Rollout,
    targets: SampledTargets,
    index: Tensor,
    parameters: TrainingParameters,
    coefficients: Coefficients | None = None,
) -> tuple[Tensor, UpdateReport]:
    """Loss of the windows ``index`` under the current weights, and its parts.

    The bars are encoded again, with gradient; each embedding serves every replica of its window. The objective is that
    of proximal policy optimisation (Schulman et al., arXiv 1707.06347, equation 9) with the divergence penalty of its
    equation 8 in addition to the clip.
    """
    embedding = windows.embedded_decisions(network.encoder, index)
    posterior = windows.posterior[:-1, index]
    projected = network.head.project(embedding, posterior)
    hidden = network.head.hidden(projected, rollout.account[:, index])
    permitted = network.head.permitted(rollout.legal[:, index])
    new = masked_log_probabilities(network.head.logits(hidden, posterior), permitted)
    old = rollout.log_probabilities[:, index]
    taken = rollout.action[:, index, ..., None]
    log_ratio = (new - old).gather(-1, taken)[..., 0]
    kl = divergence(old, new if parameters.divergence.coefficient else new.detach())
    alive = rollout.alive[:, index]
    count = alive.sum().clamp_min(1.0)
    policy_loss = (clipped_surrogate(log_ratio, targets.advantages[:, index], parameters.clip) * alive).sum() / count
    value_loss = (critic_loss(network.head.quantiles(hidden), targets.returns[:, index]) * alive).sum() / count
    terms = policy_loss, value_loss, (entropy(new) * alive).sum() / count, (kl * alive).sum() / count
    return weighted_loss(*terms, parameters, coefficients or Coefficients.first(parameters, policy_loss))


def weighted_loss(
    policy_loss: Tensor,
    value_loss: Tensor,
    bonus: Tensor,
    kl: Tensor,
    parameters: TrainingParameters,
    coefficients: Coefficients,
) -> tuple[Tensor, UpdateReport]:
    """Add up the terms of the objective, each 0-d."""
    loss = policy_loss + parameters.value * value_loss - coefficients.entropy * bonus + coefficients.divergence * kl
    terms = (policy_loss, value_loss, bonus, kl, torch.zeros_like(loss))  # the gradient comes later
    return loss, UpdateReport(*(term.detach() for term in terms))


class Part(NamedTuple):
    """Windows of a minibatch whose loss is computed at once.

    Attributes:
        windows: ``[w]`` their indices.
        share: Their share of the minibatch's valid steps.
    """

    windows: Tensor
    share: Tensor | float


def cut_minibatch(index: Tensor, parts: int, valid_steps: Tensor | None) -> list[Part]:
    """Cut a minibatch's windows into parts whose means, each times its share, add up to the minibatch's mean.

    Args:
        index: ``[w]`` windows of the minibatch.
        parts: Number of parts.
        valid_steps: ``[W]`` steps of each window at which accounts were alive; None where all windows count alike.
    """
    pieces = index.chunk(parts)
    if valid_steps is None:
        return [Part(piece, len(piece) / len(index)) for piece in pieces]
    total = valid_steps[index].sum().clamp_min(1.0)
    return [Part(piece, valid_steps[piece].sum() / total) for piece in pieces]


def update(
    network: PolicyNetwork,
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[Tensor], tuple[Tensor, UpdateReport]],
    windows: int,
    parameters: TrainingParameters,
    generator: torch.Generator,
    valid_steps: Tensor | None = None,
) -> UpdateReport:
    """Improve ``network`` by ``epochs`` passes over W windows in minibatches of whole windows.

    The loss of a minibatch may be computed in parts, whose gradients add up however many accounts live in each.
    With a trust region all of that is one step, which may be shortened or undone.

    Args:
        network: The member.
        optimiser: Over its weights.
        loss_of: Loss and its parts of the windows in an index ``[w]``, each a mean over their valid steps.
        windows: Number of windows W.
        parameters: Passes, minibatches, largest gradient, trust region.
        generator: Source of the order, on the network's device.
        valid_steps: ``[W]`` steps of each window at which accounts were alive; None where all windows count alike.

    Returns:
        Means over the last pass. With a divergence penalty or a trust region the divergence is the one after the
        update, before it was shortened or undone.
    """
    reports: list[UpdateReport] = []

    def minibatch(index: Tensor) -> tuple[Tensor, UpdateReport]:
        return loss_in_parts(loss_of, cut_minibatch(index, parameters.accumulation, valid_steps))

    everything = torch.arange(windows, device=generator.device).chunk(parameters.minibatches)
    region = TrustRegion(network, optimiser, parameters, lambda: [minibatch(part) for part in everything])
    for _ in range(parameters.epochs):
        reports_of_pass: list[UpdateReport] = []
        order = torch.randperm(windows, generator=generator, device=generator.device)
        for index in order.chunk(parameters.minibatches):
            optimiser.zero_grad(set_to_none=True)
            _, report = minibatch(index)
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), parameters.gradient_norm)
            optimiser.step()
            reports_of_pass.append(report._replace(gradient_norm=norm.detach()))
        reports = reports_of_pass
    told = region.close()
    return _mean(reports) if told is None else _mean(reports)._replace(kl=told)


def loss_in_parts(
    loss_of: Callable[[Tensor], tuple[Tensor, UpdateReport]], parts: Sequence[Part]
) -> tuple[Tensor, UpdateReport]:
    """Loss and report of a minibatch; its gradient is accumulated part by part, where gradients are enabled."""
    losses, reports = [], []
    for index, share in parts:
        loss, report = loss_of(index)
        loss = loss * share
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        reports.append(UpdateReport(*(term * share for term in report)))
    return torch.stack(losses).sum(0), sum_of(reports)


def sum_of(reports: Sequence[UpdateReport]) -> UpdateReport:
    """Add up reports, term by term."""
    return UpdateReport(*(torch.stack(column).sum(0) for column in zip(*reports, strict=True)))


def _mean(reports: Sequence[UpdateReport]) -> UpdateReport:
    return UpdateReport(*(torch.stack(column).mean() for column in zip(*reports, strict=True)))
