"""With all extras off the loss and its gradient are those of stable-baselines3's PPO on the same minibatch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import cut_windows
from sentio_kedro.agent.network.distributions import entropy, masked_log_probabilities
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.rollout import collect, draw_rollout
from sentio_kedro.agent.ppo.update import estimate_targets, minibatch_loss, value_scale
from sentio_kedro.config import TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

gymnasium = pytest.importorskip("gymnasium", reason="the peer is in the extra `bench`")
peer = pytest.importorskip("stable_baselines3", reason="the peer is in the extra `bench`")

TRADING = TradingParameters(preset="proportional")
PLAIN = TrainingParameters(
    windows=3, minibatches=1, replicas=4, gamma=0.9, gae_lambda=0.9, advantages="sampled", path_baseline=False,
    clip=0.2, entropy=0.01, value=0.5,
)  # fmt: skip
DOUBLE = torch.float64


class PeerLoss:
    """stable-baselines3's own `train`, fed with one minibatch and with what our network says of it."""

    def __init__(self) -> None:
        from stable_baselines3.common.logger import configure  # noqa: PLC0415 - an optional peer

        env = gymnasium.make("CartPole-v1")
        self.model = peer.PPO(
            "MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, normalize_advantage=False, clip_range=PLAIN.clip,
            ent_coef=PLAIN.entropy, vf_coef=PLAIN.value, max_grad_norm=1e9, device="cpu",
        )  # fmt: skip
        self.model.set_logger(configure(None, []))

    def __call__(self, said: tuple[Tensor, Tensor, Tensor], old: Tensor, advantages: Tensor, returns: Tensor) -> float:
        """Return the loss for ``values, log probabilities, entropies`` and leave its gradient in our network."""
        from stable_baselines3.common.buffers import RolloutBufferSamples  # noqa: PLC0415 - an optional peer

        nothing = torch.zeros(len(old))
        batch = RolloutBufferSamples(nothing, nothing, said[0].detach(), old, advantages, returns)
        buffer: Any = self.model.rollout_buffer
        buffer.get = lambda _: iter([batch])
        buffer.values = buffer.returns = said[0].detach().numpy()
        self.model.policy.evaluate_actions = lambda *_: said
        self.model.train()
        return float(self.model.logger.name_to_value["train/loss"])


def test_loss_and_gradient_are_those_of_a_plain_ppo(
    lively: Callable[..., PolicyNetwork], market: Callable[..., MarketTensors]
) -> None:
    network = lively(quantiles=1)
    windows = cut_windows(market(), torch.tensor([10, 17, 25]), 5, 8, TRADING)
    draws = draw_rollout(windows, 4, 3, torch.Generator().manual_seed(0))
    rollout = collect(network, windows, draws, value_scale(PLAIN.gamma), TRADING)
    learned = estimate_targets(rollout, PLAIN)
    with torch.no_grad():  # the policy has moved since: some ratios are clipped
        for weight in network.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3), dtype=DOUBLE))

    loss, _ = minibatch_loss(network, windows, rollout, learned, torch.arange(3), PLAIN)
    loss.backward()  # type: ignore[no-untyped-call]
    ours = {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
    network.zero_grad()

    embedding = network.encoder(windows.features[:, :-1], 5).transpose(0, 1)[:, :, None]
    hidden = network.head.hidden(network.head.project(embedding, windows.posterior[:-1]), rollout.account)
    new = masked_log_probabilities(network.head.logits(hidden, windows.posterior[:-1]), rollout.legal)
    taken = rollout.action[..., None]
    old = rollout.log_probabilities.gather(-1, taken)[..., 0]
    ratio = (new.gather(-1, taken)[..., 0] - old).exp()
    assert ((ratio < 0.8) | (ratio > 1.2)).any()
    said = (
        network.head.quantiles(hidden)[..., 0].flatten(),
        new.gather(-1, taken)[..., 0].flatten(),
        entropy(new).flatten(),
    )
    theirs = PeerLoss()(said, old.flatten(), learned.advantages.flatten(), learned.returns.flatten())
    assert loss.item() == pytest.approx(theirs, abs=1e-6)
    for name, weight in network.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(ours[name], weight.grad, rtol=1e-6, atol=1e-6)
