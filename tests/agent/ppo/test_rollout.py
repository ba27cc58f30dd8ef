"""Rollouts: what is remembered is what happened, and only the generator decides it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo import rollout as rollout_module
from sentio_kedro.agent.ppo.rollout import Rollout, RolloutDraws, collect, draw_rollout, walk_windows
from sentio_kedro.agent.ppo.update import SampledTargets, estimate_targets, minibatch_loss
from sentio_kedro.config import CostParameters, MaskParameters, OrderParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import hold_positions, open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import Accounts, Market
from sentio_kedro.trading.simulate import asset_rewards, simulate
from sentio_kedro.trading.step.policies import TARGETS, Policies, make_policies
from sentio_kedro.trading.step.walk import Ledger

TRADING = TradingParameters(max_drawdown=0.3, initial_cash=1.0)
FLAT = 1  # of the levels -1, 0, 1
STARTS, STEPS, CONTEXT = (10, 20, 25), 6, 8
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def windows_of(market: MarketTensors, steps: int = STEPS, trading: TradingParameters = TRADING) -> Windows:
    return cut_windows(market, torch.tensor(STARTS), steps, CONTEXT, trading)


def accounts(windows: Windows, replicas: int, seed: int, actions: int = 3) -> RolloutDraws:
    """Draws for ``replicas`` accounts per window."""
    return draw_rollout(windows, replicas, actions, torch.Generator().manual_seed(seed))


def rolled(network: PolicyNetwork, windows: Windows, seed: int = 0, trading: TradingParameters = TRADING) -> Rollout:
    return collect(network, windows, accounts(windows, 4, seed, len(trading.levels)), 2.5, trading)


def followed(
    market: MarketTensors, start: int, drawn: torch.Tensor, actions: torch.Tensor, trading: TradingParameters = TRADING
) -> Ledger:
    """Ledger of one account that starts with levels ``drawn`` ``[A]`` and takes ``actions`` ``[S, A]``."""
    levels, steps = np.array(trading.levels), len(actions)
    one, share = open_accounts(1, market.assets, trading), terms_of(trading, market.assets).allocation
    hold_positions(one, (levels[drawn] * share)[None], market.close[start].numpy()[None])
    asked = np.concatenate(
        [levels[actions] * share, np.zeros((1, market.assets))]
    )  # what the bar after asks is nothing
    policies = make_policies(np.array([TARGETS]), market.assets, len(levels), targets=asked[:, None])
    facts = market_facts(market, start, start + steps + 1, trading)
    return simulate(facts, one, policies, terms_of(trading, market.assets), trace=True)


def test_context_holds_what_an_embedding_needs(lively: Build) -> None:
    assert receptive_field(lively().encoder.parameters_) - 1 == CONTEXT


def test_a_window_holds_its_context_its_decisions_and_the_bar_after(market: Markets) -> None:
    whole = market()
    cut = windows_of(whole)
    assert torch.equal(cut.features[1], whole.features[12:27])  # 8 before 20, 6 decisions, 1 after
    assert torch.equal(cut.posterior[:, 1, 0], whole.posterior[20:27])
    torch.testing.assert_close(cut.unit[:, 1, 0], whole.volatility[20:26] * 0.5)  # two assets share the gross limit
    assert cut.rows[1].tolist() == [20, 21, 22, 23, 24, 25, 26]
    facts = cut.market.facts[cut.rows[1]]
    assert np.array_equal(facts.close, whole.close[20:27])
    assert np.array_equal(facts.open[:-1], whole.open[21:27])
    assert np.array_equal(facts.next_close[:-1], whole.close[21:27])


def test_windows_in_single_precision_trade_at_the_prices_of_the_path_in_double(market: Markets) -> None:
    whole = market()
    facts = cut_windows(whole, torch.tensor(STARTS), STEPS, CONTEXT, TRADING).market
    cut = cut_windows(whole.to(torch.device("cpu"), torch.float32), torch.tensor(STARTS), 6, 8, TRADING, facts)
    assert cut.features.dtype == cut.unit.dtype == torch.float32
    assert np.array_equal(cut.market.facts.close, whole.close)


def test_the_first_minibatch_has_ratio_one_and_no_divergence(lively: Build, market: Markets) -> None:
    network, windows = lively(), windows_of(market())
    rollout = rolled(network, windows)
    training = TrainingParameters(windows=3, minibatches=1, clip=0.2)
    learned = estimate_targets(rollout, training)
    _, report = minibatch_loss(network, windows, rollout, learned, torch.arange(3), training)
    assert report.kl.abs().item() < 1e-12
    assert report.policy_loss.item() == pytest.approx(-learned.advantages.mean().item(), abs=1e-9)
    for index in range(3):  # a ratio of one for each window, not on average alone
        single = torch.tensor([index])
        _, report = minibatch_loss(network, windows, rollout, learned, single, training)
        assert report.policy_loss.item() == pytest.approx(-learned.advantages[:, index].mean().item(), abs=1e-9)


def test_every_ratio_is_one_in_the_first_minibatch(lively: Build, market: Markets) -> None:
    network, windows = lively(), windows_of(market())
    rollout = rolled(network, windows)
    training = TrainingParameters(windows=3, minibatches=1)
    spot = torch.zeros_like(rollout.rewards)
    for place in [(0, 0, 0, 0), (5, 2, 3, 1), (3, 1, 2, 0)]:
        spot.zero_()[place] = -1.0  # a bad action is charged by its whole ratio
        _, report = minibatch_loss(network, windows, rollout, SampledTargets(spot, spot), torch.arange(3), training)
        assert report.policy_loss.item() * spot.numel() == pytest.approx(1.0, abs=1e-9)


def test_a_rollout_depends_on_its_generator_alone(lively: Build, market: Markets) -> None:
    network, windows = lively(), windows_of(market())
    torch.manual_seed(1)
    first = rolled(network, windows, seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again, other = rolled(network, windows, seed=5), rolled(network, windows, seed=6)
    assert all(
        torch.equal(a, b) for a, b in zip(first[:-1], again[:-1], strict=True)
    )  # nothing was drawn of the critic
    assert not torch.equal(first.action, other.action)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn from the global generator


def test_replicas_differ_in_their_actions_and_share_their_market(lively: Build, market: Markets) -> None:
    rollout = rolled(lively(), windows_of(market()))
    assert rollout.action.shape == (STEPS, 3, 4, 2)
    assert not torch.equal(rollout.action[:, :, 0], rollout.action[:, :, 1])


def test_accounts_start_at_the_levels_that_were_drawn(lively: Build, market: Markets) -> None:
    network, windows = lively(), windows_of(market())
    draws = accounts(windows, 4, 0)
    found = collect(network, windows, draws, 1.0, TRADING).account[0, ..., 0]
    torch.testing.assert_close(found, draws.start - 1.0, check_dtype=False)


def test_the_actions_taken_are_those_that_noise_draws_from_the_policys_probabilities(
    lively: Build, market: Markets
) -> None:
    """Each account reads its own window, its own noise, and its own replica's features."""
    network, windows = lively(), windows_of(market())
    draws = accounts(windows, 4, 0)
    rollout = collect(network, windows, draws, 1.0, TRADING)
    assert torch.equal(rollout.action, (rollout.log_probabilities + draws.noise).argmax(-1))
    assert rollout.action.unique().tolist() == [0, 1, 2]


def test_an_asset_that_cannot_be_traded_keeps_its_position(lively: Build, market: Markets) -> None:
    whole = market()
    whole.tradable[20:24, 1] = False
    rollout = rolled(lively(), windows_of(whole))
    closed = rollout.action[:4, 1, :, 1]
    assert (closed == FLAT).all()
    assert rollout.legal[:4, 1, :, 1].sum() == closed.numel()
    assert (rollout.action[:4, 1, :, 0] != FLAT).any()
    assert (rollout.log_probabilities[:4, 1, :, 1, FLAT] == 0.0).all()
    held = rollout.account[:5, 1, :, 1, 0]
    assert (held[0] != 0.0).any()
    assert torch.equal(held.sign(), held[:1].sign().expand_as(held))


def test_only_legal_actions_are_taken_and_remembered_with_their_probability(lively: Build, market: Markets) -> None:
    trading = TradingParameters(masks=MaskParameters(no_short=["*"]))
    whole = market()._replace(shortable=torch.zeros(2, dtype=torch.bool))
    rollout = rolled(lively(), windows_of(whole, trading=trading), trading=trading)
    assert rollout.legal.gather(-1, rollout.action[..., None]).all()
    assert not rollout.legal[1:, ..., 0][rollout.account[1:, ..., 0] >= 0.0].any()  # nobody goes short
    assert (rollout.log_probabilities.exp().sum(-1) - 1.0).abs().max() < 1e-9


@pytest.mark.parametrize("latency", [0, 2])
def test_rewards_and_account_features_are_those_of_an_account_that_takes_the_actions(
    lively: Build, market: Markets, latency: int
) -> None:
    whole, trading = market(), TradingParameters(max_drawdown=0.3, orders=OrderParameters(latency_bars=latency))
    windows = windows_of(whole, trading=trading)
    draws = accounts(windows, 4, 0)
    rollout = collect(lively(), windows, draws, 1.0, trading)
    for window, start in enumerate(STARTS):
        for replica in range(4):
            mine = (slice(None), window, replica)
            alone = followed(whole, start, draws.start[window, replica], rollout.action[mine], trading)
            np.testing.assert_allclose(alone.features[:-1, 0], rollout.account[mine], rtol=0, atol=1e-12)
            assert np.array_equal(alone.legal[:-1, 0], rollout.legal[mine])
            decisions = Ledger._make(part[:-1] for part in alone)
            rewards = asset_rewards(decisions, windows.unit[:, window].numpy())[:, 0]
            np.testing.assert_allclose(rewards, rollout.rewards[mine], rtol=0, atol=1e-12)


def test_a_reward_is_net_profit_in_units_of_volatility(lively: Build, market: Markets) -> None:
    """One asset from flat to long: 2 bps of the position, and the bar from its open to its close."""
    whole = market(assets=1)
    windows = windows_of(whole)
    network = lively(assets=1)
    with torch.no_grad():
        network.head.policy.bias.copy_(torch.tensor([0.0, 0.0, 100.0]).repeat(2))  # always long
    draws = accounts(windows, 2, 0)._replace(start=torch.full((3, 2, 1), FLAT))
    rewards = collect(network, windows, draws, 1.0, TRADING).rewards
    shares = 1.0 / whole.close[20, 0]
    profit = shares * (whole.close[21, 0] - whole.open[21, 0]) - 2e-4 * shares * whole.open[21, 0]
    assert rewards[0, 1, 0, 0].item() == pytest.approx((profit / whole.volatility[20, 0]).item(), rel=1e-9)


def test_an_account_that_dies_leaves_the_rollout_from_then_on(lively: Build, market: Markets) -> None:
    whole = market()
    whole.close[22:] *= 50.0  # whoever is short here is ruined, whoever holds nothing is not
    whole.open[22:] *= 50.0
    trading = TradingParameters(levels=[-1.0, 0.0], costs=CostParameters(commission_bps=0, half_spread_bps=0))
    rollout = rolled(lively(actions=2), windows_of(whole, trading=trading), trading=trading)
    assert (rollout.alive[0] == 1.0).all()
    assert torch.equal(rollout.alive[1:], rollout.survived[:-1])
    assert 0.0 < rollout.survived[-1, 1].mean() < 1.0
    assert (rollout.survived.diff(dim=0) <= 0.0).all()  # never again alive
    assert (rollout.rewards[rollout.alive == 0.0] == 0.0).all()
    assert (rollout.rewards[(rollout.alive == 1.0) & (rollout.survived == 0.0)] < 0.0).any()


def test_values_and_bootstrap_are_in_units_of_reward(lively: Build, market: Markets) -> None:
    network, windows = lively(), windows_of(market())
    one = collect(network, windows, accounts(windows, 4, 0), 1.0, TRADING)
    scaled = collect(network, windows, accounts(windows, 4, 0), 3.0, TRADING)
    torch.testing.assert_close(scaled.values, 3.0 * one.values)
    torch.testing.assert_close(scaled.bootstrap, 3.0 * one.bootstrap)
    assert torch.equal(scaled.rewards, one.rewards)


@torch.no_grad()
def test_the_bootstrap_is_the_value_of_the_state_after_the_last_step(lively: Build, market: Markets) -> None:
    """A window that is longer visits that state as a decision."""
    network, whole = lively(), market()
    short, long = (windows_of(whole, steps) for steps in (3, 5))
    draws = accounts(short, 3, 0)
    rollout = collect(network, short, draws, 1.0, TRADING)
    more = draws._replace(noise=torch.cat([draws.noise, draws.noise[:2]]))
    torch.testing.assert_close(rollout.bootstrap, collect(network, long, more, 1.0, TRADING).values[3])


def test_an_asset_without_an_allocation_stays_flat_and_every_number_is_finite(market: Markets, lively: Build) -> None:
    named = TradingParameters(
        allocation={"A": 0.75, "B": 0.0}, masks={"position_var": 0.01}, carry={"interest_rate": 0.1}
    )  # type: ignore[arg-type]
    whole = market()
    windows = windows_of(whole._replace(elapsed=torch.ones(whole.bars).double()), trading=named)
    rollout = rolled(lively(), windows, trading=named)
    assert all(torch.isfinite(part).all() for part in rollout if part is not None)
    assert (rollout.action[..., 1] == FLAT).all()
    assert (rollout.action[..., 0] != FLAT).any()
    assert not rollout.rewards[..., 1].any()
    assert not rollout.account[..., 1, [0, 3]].any()


# Where accounts walk


def test_accounts_that_walk_on_a_gpu_read_networks_and_noise_there(
    lively: Build, market: Markets, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, windows = lively(regime_experts=True), windows_of(market())
    projected = network.head.project(windows.embedded(network.encoder), windows.posterior).detach()
    given = (network.head, projected, windows, accounts(windows, 4, 0), TRADING)
    expected = walk_windows(*given)

    def walked_as_arrays(facts: Market, traders: Accounts, policies: Policies, *rest: Any, **options: Any) -> Ledger:
        tensors = {name: part.numpy() for name, part in policies._asdict().items() if isinstance(part, torch.Tensor)}
        assert set(tensors) == {"projected", "noise"}
        return simulate(facts, traders, policies._replace(**tensors), *rest, **options)

    monkeypatch.setattr(rollout_module, "walks_on", lambda device: True)
    monkeypatch.setattr(rollout_module, "simulate", walked_as_arrays)
    for part, same in zip(walk_windows(*given), expected, strict=True):
        assert part.tobytes() == same.tobytes()
