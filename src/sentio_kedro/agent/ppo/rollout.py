"""Rollouts: accounts that sample their actions along windows, for training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.distributions import gumbel_noise, masked_log_probabilities
from sentio_kedro.agent.network.head_arrays import head_arrays, head_weights
from sentio_kedro.agent.network.network import Head, PolicyNetwork
from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import allocation, hold_positions, open_accounts, terms_of
from sentio_kedro.trading.records import Accounts, Floats, Terms
from sentio_kedro.trading.simulate import asset_rewards, simulate, walks_on
from sentio_kedro.trading.step.policies import SAMPLED, Policies, make_policies, with_heads
from sentio_kedro.trading.step.walk import Ledger


class RolloutDraws(NamedTuple):
    """All random draws of a rollout, which does not depend on anything else that is random.

    Attributes:
        noise: ``[S, W, R, A, B]`` standard Gumbel noise of the B actions.
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
        actions: Number of actions B.
        generator: Source of the draws, on the windows' device.
        quantiles: Quantiles of the critic, to draw from its distributions; None draws none.
    """
    like, accounts = windows.features, (windows.size, replicas, windows.assets)
    path = (windows.steps, *accounts)
    noise = gumbel_noise((*path, actions), generator, like)
    start = torch.randint(actions, accounts, generator=generator, device=like.device)
    if quantiles is None:
        return RolloutDraws(noise, start)
    quantile = torch.randint(quantiles, path, generator=generator, device=like.device)
    return RolloutDraws(noise, start, quantile, torch.rand(path, generator=generator, device=like.device))


class Rollout(NamedTuple):
    """Experience of W x R accounts over S steps. Layout ``[S, W, R, A, ...]``.

    Attributes:
        account: ``[..., G]`` account features at the decisions.
        legal: ``[..., B]``.
        action: Actions taken.
        log_probabilities: ``[..., B]`` of the policy that acted.
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


@torch.no_grad()
def collect(
    network: PolicyNetwork, windows: Windows, draws: RolloutDraws, value_scale: float, parameters: TradingParameters
) -> Rollout:
    """Let R accounts per window trade by sampling.

    Args:
        network: The member.
        windows: W windows of S decisions.
        draws: Start positions and noise of the actions, in which alone the accounts of a window differ; and draws from
            the critic's distributions, if any.
        value_scale: Units of reward per unit of the critic's output.
        parameters: Limits and costs.

    Returns:
        The rollout. Its probabilities and values are computed at once, from what the accounts saw.
    """
    projected = network.head.project(windows.embedded(network.encoder), windows.posterior)
    walked = walk_windows(network.head, projected, windows, draws, parameters)
    like, steps = projected, windows.steps
    shape = (steps + 1, windows.size, -1, windows.assets)  # [S + 1, W, R, A]

    account = torch.from_numpy(walked.features).to(like).view(*shape, walked.features.shape[-1])
    legal = torch.from_numpy(walked.legal[:-1]).to(like.device).view(steps, *shape[1:], walked.legal.shape[-1])
    hidden = network.head.hidden(projected, account)
    logits = network.head.logits(hidden[:-1], windows.posterior[:-1])
    values = network.head.value(hidden) * value_scale
    lived = torch.from_numpy(walked.alive).to(like)  # [S + 1, N]
    alive = lived.view(*shape[:3], 1).expand_as(values)
    rewards = torch.from_numpy(rewards_of(walked, windows, parameters)).to(like).view(steps, *shape[1:])
    drawn = None if draws.quantile is None else draw_of(network.head, hidden[1:], draws.quantile) * value_scale
    return Rollout(
        account=account[:-1],
        legal=legal,
        action=torch.from_numpy(walked.actions[:-1]).to(like.device).view(steps, *shape[1:]),
        log_probabilities=masked_log_probabilities(logits, network.head.permitted(legal)),
        values=values[:-1],
        bootstrap=values[-1],
        rewards=rewards * alive[:-1],
        alive=alive[:-1],
        survived=alive[1:],
        drawn=drawn,
    )


def walk_windows(
    head: Head, projected: Tensor, windows: Windows, draws: RolloutDraws, parameters: TradingParameters
) -> Ledger:
    """Walk W x R accounts over the windows and to the bar after, whose ledger holds what they see there.

    Args:
        head: The member's.
        projected: ``[S + 1, W, 1, A, hidden]`` from its ``project``.
        windows: W windows of S decisions.
        draws: Start positions and noise.
        parameters: Limits and costs.
    """
    replicas, terms = draws.start.shape[1], terms_of(parameters, windows.assets)
    accounts = _start_accounts(windows, draws.start.cpu().numpy(), terms, parameters)
    path = np.repeat(np.arange(windows.size), replicas)
    policies = _sampled_policies(head, projected, windows, draws, path)
    return simulate(windows.market, accounts, policies, terms, windows.rows, path, trace=True)


def _start_accounts(windows: Windows, start: np.ndarray, terms: Terms, parameters: TradingParameters) -> Accounts:
    """Open training accounts at random levels ``start`` ``[W, R, A]``, so that every position is visited."""
    count, replicas, assets = start.shape
    accounts = open_accounts(count * replicas, assets, parameters)
    position = np.clip(terms.levels[start] * terms.allocation, -parameters.max_position, parameters.max_position)
    first = windows.market.facts[windows.rows[:, :1]]  # [W, 1, A]
    close, position = first.close, np.where(first.unlisted, 0.0, position)
    flat = (count * replicas, assets)
    hold_positions(accounts, position.reshape(flat), np.broadcast_to(close, position.shape).reshape(flat))
    return accounts


def _sampled_policies(
    head: Head, projected: Tensor, windows: Windows, draws: RolloutDraws, path: np.ndarray
) -> Policies:
    """Policies of accounts on ``path`` ``[N]``; the networks' rows are those of all windows, one after the other.

    At the bar after the last decision accounts see and do not draw.
    """
    steps, count, on_gpu = windows.steps, windows.size, walks_on(projected.device)
    rows = projected[:, :, 0].transpose(0, 1).flatten(0, 1)  # [W (S + 1), A, hidden]
    posterior = windows.posterior[:, :, 0].transpose(0, 1).flatten(0, 1)
    heads = head_arrays(head_weights([[head]]), rows[:, None, None], posterior[:, None], on_gpu=on_gpu)
    noise = draws.noise.double().reshape(steps, len(path), windows.assets, -1)
    policies = make_policies(
        np.full(len(path), SAMPLED),
        windows.assets,
        noise.shape[-1],
        draws=np.arange(len(path)),
        closes=np.full(len(path), steps),
        noise=None if on_gpu else noise.cpu().numpy(),
    )
    if on_gpu:
        policies = policies._replace(noise=noise)  # type: ignore[arg-type]
    first = windows.rows[:, 0] - np.arange(count) * (steps + 1)
    return with_heads(policies, heads, first[path])


def rewards_of(walked: Ledger, windows: Windows, parameters: TradingParameters) -> Floats:
    """Rewards ``[S, W R, A]`` of the decisions of a walk."""
    decisions = Ledger._make(part[: windows.steps] for part in walked)
    unit = windows.market.facts.reward_unit[windows.rows[:, :-1].T]  # [S, W, A]
    units = np.repeat(unit, walked.total.shape[1] // windows.size, axis=1)
    return asset_rewards(decisions, units, allocation(parameters, windows.assets))


def draw_of(head: Head, hidden: Tensor, quantile: Tensor) -> Tensor:
    """Take the quantile of the critic that ``quantile`` ``[...]`` names, of each state ``[..., hidden]``: ``[...]``."""
    return head.quantiles(hidden).gather(-1, quantile[..., None])[..., 0]
