"""The policy network: an encoder of the market, shared by every account, and a small head per account.

The encoder never sees an account, so one encoding of a bar serves all replicas; only the head runs step by step.
Dimensions: A assets, D width, K regimes, G account features, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentio_kedro.agent.network.encoder import Encoder, NetworkShape
from sentio_kedro.config import NetworkParameters
from sentio_kedro.trading.step.policies import ACCOUNT_FEATURES

_BUILDING = Lock()
PRIOR_LOGIT = 3.0  # of the rule's own position above the others: probability 0.87 of four


def head_width(parameters: NetworkParameters, shape: NetworkShape) -> int:
    """Width of the hidden layer: ``hidden``, or wider where one policy stands in for the regime experts.

    Without experts the head is widened to the same number of parameters, rounded to whole units, so that the two differ
    in the gating alone. The regimes' probabilities are an input of both.
    """
    if parameters.regime_experts:
        return parameters.hidden
    shared = parameters.width + shape.regimes + 1 + ACCOUNT_FEATURES + parameters.quantiles  # per unit, without policy
    gated = parameters.hidden * (shared + shape.regimes * shape.actions) + shape.regimes * shape.actions
    return round((gated - shape.actions) / (shared + shape.actions))


class Head(nn.Module):
    """From embedding, regime and account to action logits and quantiles of the return."""

    def __init__(self, parameters: NetworkParameters, shape: NetworkShape) -> None:
        """Build the head; its policy starts near uniform, or near the action that is followed."""
        super().__init__()
        hidden = head_width(parameters, shape)
        self.actions, self.masked = shape.actions, parameters.masked
        self.experts = shape.regimes if parameters.regime_experts else 1
        self.market = nn.Linear(parameters.width + shape.regimes, hidden)
        self.account = nn.Linear(ACCOUNT_FEATURES, hidden, bias=False)
        self.policy = nn.Linear(hidden, self.experts * shape.actions)
        self.critic = nn.Linear(hidden, parameters.quantiles)
        with torch.no_grad():
            self.policy.weight.mul_(0.01)
            prior = torch.zeros(shape.actions)
            if shape.followed is not None:
                prior[shape.followed] = PRIOR_LOGIT
            self.register_buffer("prior", prior, persistent=False)  # [B] logits that the policy starts from
            self.policy.bias.copy_(prior.repeat(self.experts))
            self.critic.weight.mul_(0.1)
            self.critic.bias.zero_()

    def project(self, embedding: Tensor, posterior: Tensor) -> Tensor:
        """Compute the part that does not depend on accounts, once per bar.

        Args:
            embedding: ``[..., A, D]``.
            posterior: ``[..., K]``.

        Returns:
            ``[..., A, hidden]``.
        """
        regime = posterior[..., None, :].expand(*embedding.shape[:-1], -1)
        return torch.as_tensor(self.market(torch.cat([embedding, regime], dim=-1)))

    def hidden(self, projected: Tensor, account: Tensor) -> Tensor:
        """Combine the market and the accounts.

        Args:
            projected: ``[..., A, hidden]`` from ``project``, broadcastable to the accounts.
            account: ``[..., A, G]`` account features.

        Returns:
            ``[..., A, hidden]``.
        """
        return F.silu(projected + torch.as_tensor(self.account(account)))

    def logits(self, hidden: Tensor, posterior: Tensor) -> Tensor:
        """Mix the regime experts' logits by the filtered posterior ``[..., K]``: ``[..., A, actions]``."""
        experts = torch.as_tensor(self.policy(hidden))
        if self.experts == 1:
            return experts
        experts = experts.view(*experts.shape[:-1], self.experts, self.actions)
        return (experts * posterior[..., None, :, None]).sum(-2)

    def closeness(self, log_probabilities: Tensor) -> Tensor:
        """Entropy ``[...]`` of a policy ``[..., actions]`` relative to what it started from, nats.

        Minus its divergence from that, up to a constant; the entropy itself where it started near uniform.
        """
        probabilities = log_probabilities.exp()
        return (probabilities * (self.get_buffer("prior") - log_probabilities)).sum(-1)

    def permitted(self, legal: Tensor) -> Tensor:
        """Mask of the actions that the policy may choose ``[..., actions]`` (bool).

        Masked, those are the ``legal`` ones ``[..., actions]``. Else all actions of an asset that has a choice.
        """
        return legal if self.masked else legal | (legal.sum(-1, keepdim=True) > 1)

    def quantiles(self, hidden: Tensor) -> Tensor:
        """Rising quantiles of the discounted reward ``[..., A, Q]``, in units of its scale; one is the value."""
        return rising(torch.as_tensor(self.critic(hidden)))

    def value(self, hidden: Tensor) -> Tensor:
        """Mean of ``quantiles`` ``[..., A]``, which is the critic's first output, so that no quantile is computed."""
        return F.linear(hidden, self.critic.weight[:1], self.critic.bias[:1])[..., 0]


def rising(raw: Tensor) -> Tensor:
    """Make quantiles that never cross: a centre, and steps that are never negative.

    Args:
        raw: ``[..., Q]``.

    Returns:
        ``[..., Q]`` rising; their mean is ``raw``'s first entry.
    """
    count = raw.shape[-1]
    if count == 1:
        return raw
    # step i lifts the quantiles above it; less the mean over quantiles, so that the centre is their mean
    above = torch.ones(count - 1, count, dtype=raw.dtype, device=raw.device).triu(1)
    lift = (above - above.mean(-1, keepdim=True)) * (3.0 / count)
    return raw[..., :1] + (F.elu(raw[..., 1:]) + 1.0) @ lift  # elu + 1 is positive, and cheaper than softplus


class PolicyNetwork(nn.Module):
    """Encoder and head of one member."""

    def __init__(self, parameters: NetworkParameters, shape: NetworkShape) -> None:
        """Build both."""
        super().__init__()
        self.encoder = Encoder(parameters, shape)
        self.head = Head(parameters, shape)


def build_network(parameters: NetworkParameters, shape: NetworkShape, generator: torch.Generator) -> PolicyNetwork:
    """Build a network whose weights depend on ``generator`` alone."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with _BUILDING, torch.random.fork_rng(devices=[]):  # the constructors draw from torch's one global generator
        torch.manual_seed(seed)
        return PolicyNetwork(parameters, shape)


def load_network(parameters: NetworkParameters, shape: NetworkShape, weights: Mapping[str, Tensor]) -> PolicyNetwork:
    """Build a network with ``weights``, whatever other threads build meanwhile."""
    network = build_network(parameters, shape, torch.Generator().manual_seed(0))
    network.load_state_dict(weights)
    return network
