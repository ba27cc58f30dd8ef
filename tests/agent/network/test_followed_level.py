"""A policy that starts from the rule: its likeliest level is the rule's own position, and leaving it has a price."""

import pytest
import torch

from sentio_kedro.agent.network.distributions import entropy, normalised
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import PRIOR_LOGIT, PolicyNetwork, build_network
from sentio_kedro.config import NetworkParameters

NETWORK = NetworkParameters(encoder="mlp", width=8, hidden=8, quantiles=11)


def network(followed: int | None) -> PolicyNetwork:
    return build_network(NETWORK, NetworkShape(5, 2, 3, 4, followed), torch.Generator().manual_seed(0))


@torch.no_grad()
def test_an_untrained_policy_follows_the_rule_whatever_it_sees() -> None:
    head = network(2).head
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(500, 2, 8, generator=generator)
    posterior = torch.rand(500, 3, generator=generator)
    posterior = posterior / posterior.sum(-1, keepdim=True)
    logits = head.logits(hidden, posterior)
    assert (logits.argmax(-1) == 2).all()
    assert logits.softmax(-1)[..., 2].min() > 0.8


def test_closeness_is_the_entropy_where_the_policy_started_near_uniform() -> None:
    log_probabilities = normalised(torch.randn(50, 4, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(network(None).head.closeness(log_probabilities), entropy(log_probabilities))


def test_closeness_is_highest_at_the_start() -> None:
    head, start = network(1).head, torch.zeros(4)
    start[1] = PRIOR_LOGIT
    at_start, uniform = normalised(start), normalised(torch.zeros(4))
    most = start.exp().sum().log().item()  # less a divergence of 0
    assert head.closeness(at_start).item() == pytest.approx(most, rel=1e-6)
    divergence = (uniform.exp() * (uniform - at_start)).sum().item()
    assert head.closeness(uniform).item() == pytest.approx(most - divergence, rel=1e-6)
