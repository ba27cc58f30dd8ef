"""sb3-contrib's MaskablePPO on the same market, with the same encoder, fed by windows of observations."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from sentio_kedro.agent.network.encoder import Encoder, NetworkShape
from sentio_kedro.config import NetworkParameters
from sentio_kedro.market.tensors import MarketTensors

ENVIRONMENTS, STEPS, COST = 16, 128, 2e-4


class WindowEnvironment(gym.Env[np.ndarray, int]):
    """One account on one asset; an observation is a full window of features and the account."""

    def __init__(self, market: MarketTensors, window: int, seed: int) -> None:
        """Prepare the market as arrays."""
        self.features = market.features[:, 0].numpy()
        self.close = market.close[:, 0].numpy()
        self.window, self.rng = window, np.random.default_rng(seed)
        size = window * self.features.shape[1] + 4
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Discrete(3)

    def _observe(self) -> np.ndarray:
        window = self.features[self.row - self.window + 1 : self.row + 1]
        account = np.array([self.position, abs(self.position), 0.0, 1.0], dtype=np.float32)
        return np.concatenate([window.ravel(), account])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start flat at a random row."""
        self.row = int(self.rng.integers(self.window, len(self.close) - STEPS - 2))
        self.position, self.remaining = 0.0, STEPS
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Trade and move one bar."""
        target = float(action - 1)
        change = self.close[self.row + 1] / self.close[self.row] - 1.0
        reward = target * change - COST * abs(target - self.position)
        self.position, self.row, self.remaining = target, self.row + 1, self.remaining - 1
        return self._observe(), float(reward), False, self.remaining == 0, {}

    def action_masks(self) -> np.ndarray:
        """All actions are legal."""
        return np.ones(3, dtype=bool)


class WindowEncoder(BaseFeaturesExtractor):
    """The project's encoder, run on each observation's own window."""

    def __init__(self, space: gym.Space, network: NetworkParameters, shape: NetworkShape, window: int) -> None:
        """Build the encoder."""
        super().__init__(space, network.width + 4)
        self.encoder, self.window, self.inputs = Encoder(network, shape), window, shape.features

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Embed the last bar of each window and append the account."""
        bars = observations[:, :-4].unflatten(1, (self.window, 1, self.inputs))
        return torch.cat([self.encoder(bars, 1)[:, 0, 0], observations[:, -4:]], dim=-1)


def measure(
    market: MarketTensors, network: NetworkParameters, shape: NetworkShape, updates: int = 2
) -> dict[str, float]:
    """Time ``updates`` rollouts with their updates: batch 256, 4 epochs; a first one warms up."""
    window = network.window
    makers = [lambda seed=seed: WindowEnvironment(market, window, seed) for seed in range(ENVIRONMENTS)]
    model = MaskablePPO(
        "MlpPolicy",
        DummyVecEnv(makers),
        n_steps=STEPS,
        batch_size=256,
        n_epochs=4,
        device="cpu",
        policy_kwargs={
            "features_extractor_class": WindowEncoder,
            "features_extractor_kwargs": {"network": network, "shape": shape, "window": window},
            "net_arch": [network.hidden],
        },
    )
    steps = ENVIRONMENTS * STEPS
    model.learn(steps)
    began = time.perf_counter()
    model.learn(steps * updates, reset_num_timesteps=False)
    seconds = time.perf_counter() - began
    return {"env_steps_per_second": steps * updates / seconds, "seconds": seconds, "updates": float(updates)}
