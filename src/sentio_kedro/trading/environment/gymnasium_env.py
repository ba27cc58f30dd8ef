"""Episodes as a Gymnasium vector environment, for external learners. Needs the extra ``gym``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.trading.environment.episodes import Episodes
from sentio_kedro.trading.environment.play import Observation
from sentio_kedro.trading.step.policies import ACCOUNT_FEATURES

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
    (``window`` x A x F), then the account features (A x G). An action is one number per asset, the index of a level in
    ``trading.levels``; ``action_masks`` returns the legal ones.

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
        self._features: Observations = episodes.market.features.float().flatten(1).numpy()  # [T, A * F]
        self._span, assets = np.arange(1 - window, 1), episodes.market.assets
        size = window * self._features.shape[1] + assets * ACCOUNT_FEATURES
        self.single_observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.single_action_space = MultiDiscrete([episodes.levels] * assets)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._legal: NDArray[np.bool_] | None = None

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
            self.episodes.generator = np.random.default_rng(seed)
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
            ValueError: If ``actions`` has another shape, or an index is no level's.
        """
        transition = self.episodes.step(actions)
        self._legal = transition.observation.legal
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        infos: dict[str, Any] = {"equity": np.array(transition.total.equity), "_equity": everywhere}
        ended = transition.terminated | transition.truncated
        if ended.any():
            final = self._flat(transition.final_observation)
            last = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(ended):
                last[index] = final[index]
            infos |= {"final_obs": last, "_final_obs": ended}
        observed = self._flat(transition.observation)
        return observed, transition.reward, transition.terminated, transition.truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal actions of all accounts ``[N, A * actions]``, as sb3-contrib's MaskablePPO reads them.

        Raises:
            RuntimeError: Before the first ``reset``.
        """
        if self._legal is None:
            raise RuntimeError("There are no legal actions before the first `reset`; call `reset()`.")
        return self._legal.reshape(self.num_envs, -1).copy()

    def _flat(self, observation: Observation) -> Observations:
        rows = np.maximum(observation.row[:, None] + self._span, 0)  # [N, window]
        parts = self._features[rows].reshape(self.num_envs, -1), observation.account.reshape(self.num_envs, -1)
        return np.concatenate(parts, axis=1, dtype=np.float32)
