"""Agents side by side: each account of a batch follows its own agent, all of them judged in one go."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.distributions import masked_log_probabilities
from sentio_kedro.agent.networks import Encoder, Head, receptive_field
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.action_masks import decode, level_tensor
from sentio_kedro.trading.environment import account_features
from sentio_kedro.trading.execution import AccountState, Decision
from sentio_kedro.trading.simulate import Policy

ENCODED_BARS = 4096  # bars embedded at once, so that memory does not grow with the history


@torch.no_grad()
def encode_rows(encoder: Encoder, features: Tensor, start: int, stop: int, context: int) -> Tensor:
    """Embed rows ``[start, stop)`` of features ``[T, A, F]`` piece by piece: ``[stop - start, A, D]``."""
    pieces = []
    for begin in range(start, stop, ENCODED_BARS):
        end = min(stop, begin + ENCODED_BARS)
        pieces.append(encoder(features[None, max(0, begin - context) : end], end - begin)[0])
    return torch.cat(pieces)


class AgentsPolicy:
    """Account i of ``[N]`` follows agent i: the likeliest action under the mean of its members' legal probabilities.

    The heads of all members of all agents are stacked, so that a step costs one head, not one per member. What the
    mean is taken over comes second: ``[N, M, A, ...]``.
    """

    def __init__(
        self,
        heads: Sequence[Sequence[Head]],
        projected: Tensor,
        posterior: Tensor,
        parameters: TradingParameters,
    ) -> None:
        """Stack N agents of M members.

        Args:
            heads: Heads, by agent and member.
            projected: ``[S, N, M, A, hidden]`` from each head's ``project``.
            posterior: ``[S, N, K]`` of each agent's regime model.
            parameters: Actions and limits.
        """
        self.projected, self.posterior, self.parameters = projected, posterior, parameters
        self.levels = level_tensor(parameters, projected)
        flat = [head for agent in heads for head in agent]
        self.actions_, self.regimes = flat[0].actions, flat[0].regimes
        self.account_weight = _grouped([head.account.weight.T for head in flat], len(heads))  # [N, M, G, H]
        self.policy_weight = _grouped([head.policy.weight.T for head in flat], len(heads))
        self.policy_bias = _grouped([head.policy.bias for head in flat], len(heads))[:, :, None]
        self.actions: list[Tensor] = []
        self.legal: list[Tensor] = []

    def probabilities(self, step: int, account: AccountState, close: Tensor, legal: Tensor) -> Tensor:
        """Average the members' legal probabilities ``[N, A, actions]``."""
        seen = account_features(account, close, self.parameters)[:, None]  # [N, 1, A, G]
        hidden = F.silu(self.projected[step] + seen @ self.account_weight)
        experts = hidden @ self.policy_weight + self.policy_bias
        if self.regimes > 1:
            experts = experts.view(*experts.shape[:-1], self.regimes, self.actions_)
            experts = (experts * self.posterior[step][:, None, None, :, None]).sum(-2)
        return masked_log_probabilities(experts, legal[:, None]).exp().mean(1)

    def __call__(self, step: int, account: AccountState, close: Tensor, legal: Tensor) -> Decision:
        """Take the likeliest action of each asset."""
        action = self.probabilities(step, account, close, legal).argmax(-1)
        self.actions.append(action)
        self.legal.append(legal)
        return decode(action, self.levels)


def _grouped(parts: Sequence[Tensor], groups: int) -> Tensor:
    """Stack equal parts and cut the stack into groups ``[groups, parts per group, ...]``."""
    return torch.stack(list(parts)).view(groups, -1, *parts[0].shape)


def agents_policy(
    bundles: Sequence[AgentBundle], market: MarketTensors, posteriors: Sequence[Tensor], start: int, stop: int
) -> AgentsPolicy:
    """Prepare agents to decide at rows ``[start, stop)``, one account each.

    Args:
        bundles: N agents of equal shape.
        market: Bars and the agents' features.
        posteriors: ``[T, K]`` of each agent's regime model.
        start: First decision row.
        stop: Row after the last decision.

    Returns:
        The policy; step 0 is row ``start``.
    """
    heads, projected = [], []
    for bundle, posterior in zip(bundles, posteriors, strict=True):
        networks = bundle.networks(market.close.dtype)
        context = receptive_field(bundle.spec.network) - 1
        rows = posterior[start:stop]
        embedded = [encode_rows(network.encoder, market.features, start, stop, context) for network in networks]
        members = [network.head.project(x, rows) for network, x in zip(networks, embedded, strict=True)]
        projected.append(torch.stack(members, dim=1))  # [S, M, A, hidden]
        heads.append([network.head for network in networks])
    chosen = torch.stack([posterior[start:stop] for posterior in posteriors], dim=1)  # [S, N, K]
    return AgentsPolicy(heads, torch.stack(projected, dim=1), chosen, bundles[0].spec.trading)


class SideBySide:
    """Gives consecutive accounts of a batch ``[N]`` to policies."""

    def __init__(self, policies: Sequence[tuple[Policy, int]], last_step: int | None = None) -> None:
        """Take policies with their numbers of accounts; at ``last_step`` all accounts leave their positions."""
        self.policies, self.last_step = policies, last_step

    def __call__(self, step: int, account: AccountState, close: Tensor, legal: Tensor) -> Decision:
        """Ask each policy for its accounts' decisions."""
        if step == self.last_step:
            return Decision(torch.zeros_like(account.shares), torch.zeros_like(account.shares, dtype=torch.bool))
        decisions, first = [], 0
        for policy, count in self.policies:
            rows = slice(first, first + count)
            own = AccountState(*(part[rows] for part in account))
            decisions.append(policy(step, own, close, legal[rows]))
            first += count
        return Decision(*(torch.cat(parts) for parts in zip(*decisions, strict=True)))
