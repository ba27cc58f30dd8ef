"""Episodes as a Gymnasium vector environment, for external learners. Needs the extra ``gym``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.trading.episodes import Episodes, Observation
from sentio_kedro.trading.observations import ACCOUNT_FEATURES

try:
    from gymnasium.spaces import Box, MultiDiscrete
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise ImportError(
        "The Gymnasium environment needs the package gymnasium >= 1.0, which is not installed; run "
        "`pip install sentio_kedro[gym]`."
    ) from error

Observations = NDArray[np.float32]


class TradingVectorEnv(VectorEnv[Observations, NDArray[np.int64], NDArray[Any]]):
    """N accounts as a ``gymnasium.vector.VectorEnv``.

    An observation is a flat vector of float32: the market features of the last ``window`` bars, oldest first
    (``window`` x A x F), then the account features (A x G). An action is one number per asset: 0 holds, 1 + i asks for
    ``trading.levels[i]``; ``action_masks`` returns the legal ones.

    Episodes that end restart in the same step (``AutoresetMode.SAME_STEP``): the observation returned is that of the
    new episode and ``infos["final_obs"]`` holds the last one of the old, where ``infos["_final_obs"]`` is true.
    ``infos["equity"]`` is the equity after the step in quote currency, before any reset.

    Attributes:
        episodes: The accounts.
        window: Bars of an observation.
    """

    def __init__(self, episodes: Episodes, window: int = 1) -> None:
        """Wrap ``episodes``, whose generator is the only source of random numbers.

        Args:
            episodes: The accounts.
            window: Bars of an observation, at least 1. Observations may include bars before the train segments; the
                market's first bar is repeated before it.

        Raises:
            ValueError: If ``window`` is below 1.
        """
        if window < 1:
            raise ValueError(f"`window` must be at least 1 bar, was {window}; raise it.")
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.episodes, self.window, self.num_envs = episodes, window, episodes.accounts
        features, assets = episodes.market.features, episodes.market.assets
        actions = len(episodes.world.levels)
        self._span = torch.arange(1 - window, 1, device=features.device)
        size = window * assets * features.shape[-1] + assets * ACCOUNT_FEATURES
        self.single_observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.single_action_space = MultiDiscrete([actions] * assets)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._legal: Tensor | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a new episode with every account.

        Args:
            seed: Seed of the starts; None continues the generator.
            options: Not used.

        Returns:
            Observations ``[N, size]`` and no infos.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.episodes.generator.manual_seed(seed)
        observation = self.episodes.reset()
        self._legal = observation.legal
        return self._flat(observation), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take one step with every account, by ``actions`` ``[N, A]``.

        Returns:
            Observations ``[N, size]``, rewards, terminations, truncations ``[N]``, and infos.

        Raises:
            ValueError: If ``actions`` has another shape.
        """
        shape = (self.num_envs, self.episodes.market.assets)
        if np.shape(actions) != shape:
            raise ValueError(
                f"`actions` must have the shape {shape} (accounts, assets), was {np.shape(actions)}; reshape them."
            )
        chosen = torch.as_tensor(np.asarray(actions, dtype=np.int64), device=self._span.device)
        transition = self.episodes.step(chosen)
        self._legal = transition.observation.legal
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        infos: dict[str, Any] = {"equity": _array(transition.fill.equity.double()), "_equity": everywhere}
        ended = _array(transition.terminated | transition.truncated)
        if ended.any():
            final = self._flat(transition.final_observation)
            last = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(ended):
                last[index] = final[index]
            infos |= {"final_obs": last, "_final_obs": ended}
        return (
            self._flat(transition.observation),
            _array(transition.reward.double()),
            _array(transition.terminated),
            _array(transition.truncated),
            infos,
        )

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal actions of all accounts ``[N, A * actions]``, as sb3-contrib's MaskablePPO reads them.

        Raises:
            RuntimeError: Before the first ``reset``.
        """
        if self._legal is None:
            raise RuntimeError("There are no legal actions before the first `reset`; call `reset()`.")
        return _array(self._legal.flatten(1))

    def _flat(self, observation: Observation) -> Observations:
        rows = (observation.row[:, None] + self._span).clamp_min(0)  # [N, window]
        parts = self.episodes.market.features[rows].flatten(1), observation.account.flatten(1)
        return _array(torch.cat(parts, dim=-1).float())


def _array(values: Tensor) -> NDArray[Any]:
    """Copy to the CPU, so that later steps do not change the array."""
    return np.array(values.cpu().numpy())
