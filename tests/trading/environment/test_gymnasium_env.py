"""Gymnasium and sb3-contrib accept the environment as it is."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.environment.episodes import Episodes
from sentio_kedro.trading.environment.gymnasium_env import TradingVectorEnv

BARS, EPISODE = 120, 8
TRADING = TradingParameters(levels=[-1.0, 0.0, 1.0], masks={"trades_per_day": 2})


def make(accounts: int = 4, window: int = 1, assets: int = 2, crash: bool = False) -> TradingVectorEnv:
    generator = torch.Generator().manual_seed(0)
    close = 50.0 * (0.01 * torch.randn(BARS, assets, generator=generator)).cumsum(0).exp()
    if crash:
        close[1::2] *= 5.0  # whoever is short at a rise is ruined
    market = MarketTensors(
        features=torch.arange(BARS * assets * 3).view(BARS, assets, 3).float(),
        open=torch.cat([close[:1], close[:-1]]),
        close=close,
        tradable=torch.rand(BARS, assets, generator=generator) > (0.0 if crash else 0.1),
        volatility=torch.full((BARS, assets), 0.01),
        posterior=torch.ones(BARS, 1),
        session=torch.arange(BARS) // 10,
        present=torch.ones(BARS, assets, dtype=torch.bool),
    )
    segments = [Segment(0, 60), Segment(70, BARS)]
    return TradingVectorEnv(Episodes(market, segments, TRADING, EPISODE, accounts, np.random.default_rng(0)), window)


class OneAccount(gymnasium.Env[Any, Any]):
    """A vector environment of one account, unbatched, which is what Gymnasium's checker takes."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self) -> None:
        self.accounts = make(1, window=2)
        self.observation_space = self.accounts.single_observation_space
        self.action_space = self.accounts.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        observations, infos = self.accounts.reset(seed=seed, options=options)
        return observations[0], infos

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observations, rewards, ends, cuts, infos = self.accounts.step(action[None])
        last = infos["final_obs"][0] if "final_obs" in infos else observations[0]
        return last, float(rewards[0]), bool(ends[0]), bool(cuts[0]), {"equity": infos["equity"][0]}


def random_legal(env: TradingVectorEnv, rng: np.random.Generator) -> np.ndarray:
    masks = env.action_masks().reshape(env.num_envs, -1, len(TRADING.levels))
    return np.where(masks, rng.random(masks.shape), -1.0).argmax(-1)


def test_gymnasium_accepts_an_account() -> None:
    check_env(OneAccount(), skip_render_check=True)


def test_what_is_returned_lies_in_the_declared_spaces() -> None:
    env, rng = make(window=3), np.random.default_rng(0)
    observations, infos = env.reset(seed=1)
    assert env.observation_space.contains(observations)
    assert env.single_observation_space.shape == (3 * 2 * 3 + 2 * 4,)
    assert infos == {}
    for _ in range(2 * EPISODE):
        actions = random_legal(env, rng)
        assert env.action_space.contains(actions)
        observations, rewards, ends, cuts, _ = env.step(actions)
        assert env.observation_space.contains(observations)
        assert (rewards.dtype, ends.dtype, cuts.dtype) == (np.float64, np.bool_, np.bool_)
        assert rewards.shape == ends.shape == cuts.shape == (4,)
        assert env.action_masks().shape == (4, 6)


def test_an_observation_is_the_last_bars_and_the_account() -> None:
    env = make(window=3)
    env.episodes.starts = np.array([1])
    observations, _ = env.reset()
    features = env.episodes.market.features
    observed = observations[0, :18].reshape(3, 2, 3)
    assert np.array_equal(observed, features[[0, 0, 1]].numpy())  # before the first bar stands the first bar
    assert observations[0, 18:].tolist() == [0.0, 0.0, 0.0, 1.0] * 2
    assert np.array_equal(env.step(np.zeros((4, 2), dtype=np.int64))[0][0, :18], features[:3].flatten().numpy())


def test_the_end_of_an_episode_is_told_in_the_step_that_resets_it() -> None:
    env, rng = make(), np.random.default_rng(0)
    env.reset(seed=3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for _ in range(EPISODE - 1):
        row = env.episodes.state.places.row.copy()
        *_, infos = env.step(random_legal(env, rng))
        assert "final_obs" not in infos
    observations, _, ends, cuts, infos = env.step(random_legal(env, rng))
    assert cuts.all()
    assert not ends.any()
    assert infos["_final_obs"].all()
    features = env.episodes.market.features
    for index in range(4):
        assert np.array_equal(infos["final_obs"][index][:6], features[row[index] + 2].flatten().numpy())
        assert np.array_equal(observations[index, :6], features[env.episodes.state.places.row[index]].flatten().numpy())


def test_a_bankrupt_account_alone_has_a_final_observation() -> None:
    env = make(accounts=2, assets=1, crash=True)
    env.episodes.starts = np.array([2])
    env.reset()
    for _ in range(6):
        *_, ends, cuts, infos = env.step(np.array([[0], [1]]))  # short, flat
        if ends.any():
            break
    assert ends.tolist() == [True, False]
    assert cuts.tolist() == [False, False]
    assert infos["_final_obs"].tolist() == [True, False]
    assert infos["final_obs"][1] is None
    assert infos["equity"].tolist() == [0.0, 1e6]
    assert env.episodes.state.places.remaining.tolist()[0] == EPISODE


def test_seeds_decide_the_starts_and_returned_arrays_are_the_callers() -> None:
    env = make(accounts=16)
    first, again, other = (env.reset(seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    expected = other.copy()
    masks = env.action_masks()
    masks[:] = False
    other[:] = 0.0
    assert env.action_masks().any()
    env.step(random_legal(env, np.random.default_rng(0)))
    assert np.array_equal(env.reset(seed=2)[0], expected)


def test_gymnasiums_own_wrappers_understand_the_episodes() -> None:
    env, rng = make(), np.random.default_rng(0)
    wrapped = RecordEpisodeStatistics(env)
    wrapped.reset(seed=0)
    total = np.zeros(4)
    for step in range(2 * EPISODE):
        _, rewards, _, cuts, infos = wrapped.step(random_legal(env, rng))
        total = rewards if step == EPISODE else total + rewards
        assert ("episode" in infos) == cuts.any()
    assert infos["episode"]["l"].tolist() == [EPISODE] * 4
    assert infos["episode"]["r"].tolist() == pytest.approx(total.tolist())
    assert infos["equity"].tolist() == pytest.approx((1e6 * np.exp(total)).tolist(), rel=1e-5)
    wrapped.close()
    wrapped.close()


def test_misuse_is_refused() -> None:
    env = make()
    with pytest.raises(RuntimeError, match="reset"):
        env.action_masks()
    env.reset()
    with pytest.raises(ValueError, match=r"shape \(4, 2\).*was \(4,\)"):
        env.step(np.zeros(4, dtype=np.int64))
    with pytest.raises(ValueError, match="was 0"):
        make(window=0)


def test_without_gymnasium_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "gymnasium"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "sentio_kedro.trading.environment.gymnasium_env")
    with pytest.raises(ImportError, match=r"pip install sentio_kedro\[gym\]"):
        __import__("sentio_kedro.trading.environment.gymnasium_env")


def test_maskable_ppo_trains_on_it_unchanged() -> None:
    contrib = pytest.importorskip("sb3_contrib")
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")

    class Accounts(vec_env.VecEnv):  # type: ignore[misc, name-defined]
        """The vector environment in the words of stable-baselines3."""

        def __init__(self, env: TradingVectorEnv) -> None:
            self.env, self.taken, self.masked = env, np.zeros(0), 0
            super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

        def reset(self) -> Any:
            return self.env.reset()[0]

        def step_async(self, actions: Any) -> None:
            masks = self.env.action_masks().reshape(*actions.shape, -1)
            assert np.take_along_axis(masks, actions[..., None], -1).all()  # only legal actions arrive
            self.taken = actions

        def step_wait(self) -> Any:
            observations, rewards, ends, cuts, infos = self.env.step(self.taken)
            infos_by_account: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            for index in np.flatnonzero(ends | cuts):
                infos_by_account[index] = {
                    "terminal_observation": infos["final_obs"][index],
                    "TimeLimit.truncated": cuts[index],
                }
            return observations, rewards, ends | cuts, infos_by_account

        def env_method(self, name: str, *_: Any, **__: Any) -> list[Any]:
            self.masked += 1
            return list(getattr(self.env, name)())

        def has_attr(self, name: str) -> bool:
            return hasattr(self.env, name)

        def get_attr(self, name: str, indices: Any = None) -> list[Any]:
            return [getattr(self.env, name, None)] * self.num_envs

        def set_attr(self, name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError

        def env_is_wrapped(self, wrapper: Any, indices: Any = None) -> list[bool]:
            return [False] * self.num_envs

        def close(self) -> None:
            self.env.close()

    accounts = Accounts(make())
    model = contrib.MaskablePPO("MlpPolicy", accounts, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu")
    before = [weights.clone() for weights in model.policy.parameters()]
    model.learn(256)
    assert accounts.masked >= 64
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
