"""The critic as shipped: its quantiles are quantiles of a skewed return, not something between them and the mean."""

import math

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import Head
from sentio_kedro.agent.ppo import losses
from sentio_kedro.agent.ppo.losses import critic_loss, quantile_levels
from sentio_kedro.agent.training.schedules import learning_rate
from sentio_kedro.config import NetworkParameters, TrainingParameters
from sentio_kedro.trading.step.policies import ACCOUNT_FEATURES

NETWORK, TRAINING = NetworkParameters(), TrainingParameters()
BATCH = TRAINING.windows * TRAINING.episode_bars // TRAINING.minibatches  # returns of one asset in one step
STEPS = 400
SHAPE = 0.75  # deviation of the logarithm of the log-normal


def drawn(law: str, draws: torch.Generator) -> Tensor:
    """Returns ``[BATCH]`` with mean 0, deviation 1 and a long tail of losses."""
    if law == "exponential":
        return 1.0 + torch.rand(BATCH, generator=draws).clamp_min(1e-9).log()
    mean, deviation = math.exp(SHAPE**2 / 2.0), math.exp(SHAPE**2 / 2.0) * math.sqrt(math.expm1(SHAPE**2))
    return (mean - (SHAPE * torch.randn(BATCH, generator=draws)).exp()) / deviation


def probability_below(law: str, level: float) -> float:
    """Probability that such a return is below ``level``."""
    if law == "exponential":
        return math.exp(min(0.0, level - 1.0))
    mean, deviation = math.exp(SHAPE**2 / 2.0), math.exp(SHAPE**2 / 2.0) * math.sqrt(math.expm1(SHAPE**2))
    loss = mean - level * deviation
    return 1.0 if loss <= 0.0 else 0.5 * math.erfc(math.log(loss) / SHAPE / math.sqrt(2.0))


def learnt_quantiles(law: str) -> Tensor:
    """Quantiles ``[51]`` that the default head learns from such returns with the default optimiser."""
    torch.manual_seed(0)
    head, draws = Head(NETWORK, NetworkShape(3, 1, 2, 4)), torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(head.parameters(), lr=TRAINING.learning_rate, eps=1e-5, weight_decay=0.0)
    embedding, posterior = torch.ones(1, 1, NETWORK.width), torch.full((1, 2), 0.5)
    account = torch.zeros(BATCH, 1, ACCOUNT_FEATURES)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = learning_rate(TRAINING, step, STEPS)
        hidden = head.hidden(head.project(embedding, posterior), account)
        loss = TRAINING.value * critic_loss(head.quantiles(hidden)[:, 0], drawn(law, draws)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(head.parameters(), TRAINING.gradient_norm)
        optimiser.step()
    return head.quantiles(head.hidden(head.project(embedding, posterior), account[:1]))[0, 0].detach()


def errors(law: str) -> list[float]:
    """Probability below each learnt quantile, less the one it stands for."""
    quantiles = learnt_quantiles(law)
    levels = quantile_levels(len(quantiles), quantiles).tolist()
    return [probability_below(law, level) - tau for level, tau in zip(quantiles.tolist(), levels, strict=True)]


@pytest.mark.parametrize("law", ["exponential", "lognormal"])
def test_quantiles_of_the_shipped_critic_have_the_probabilities_that_they_stand_for(law: str) -> None:
    found = errors(law)
    assert len(found) == 51
    assert max(abs(error) for error in found) <= 0.02


def test_a_wide_huber_loss_would_learn_expectiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "KAPPA", 1.0)
    assert max(abs(error) for error in errors("exponential")) > 0.1
