"""Rollouts: what is remembered is what happened, and only the generator decides it."""

from collections.abc import Callable

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.rollout import Rollout, RolloutDraws, collect, draw_rollout
from sentio_kedro.agent.ppo.update import SampledTargets, estimate_targets, minibatch_loss
from sentio_kedro.config import CostParameters, MaskParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts
from sentio_kedro.trading.action_masks import HOLD, decode, level_tensor
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.observations import account_features, hold_positions
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.precompute import make_step_data

DOUBLE = torch.float64
TRADING = TradingParameters(max_drawdown=0.3, initial_cash=1.0)
STEPS, CONTEXT = 6, 8
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def windows_of(market: MarketTensors, starts: tuple[int, ...] = (10, 20, 25)) -> Windows:
    return cut_windows(market, torch.tensor(starts), STEPS, CONTEXT, TRADING)


def accounts(windows: Windows, replicas: int, seed: int, actions: int = 4) -> RolloutDraws:
    """Draws for ``replicas`` accounts per window."""
    return draw_rollout(windows, replicas, actions, torch.Generator().manual_seed(seed))


def rolled(network: PolicyNetwork, windows: Windows, seed: int = 0, trading: TradingParameters = TRADING) -> Rollout:
    return collect(network, windows, accounts(windows, 4, seed, 1 + len(trading.levels)), 2.5, trading)


def test_context_holds_what_an_embedding_needs(lively: Build) -> None:
    assert receptive_field(lively().encoder.parameters_) - 1 == CONTEXT


def test_a_window_holds_its_context_its_decisions_and_the_bar_after(market: Markets) -> None:
    whole = market()
    cut = windows_of(whole)
    assert torch.equal(cut.features[1], whole.features[12:27])  # 8 before 20, 6 decisions, 1 after
    assert torch.equal(cut.posterior[:, 1, 0], whole.posterior[20:27])
    assert torch.equal(cut.unit[:, 1, 0], whole.volatility[20:26] * 0.5)  # two assets share the gross limit
    assert torch.equal(cut.decisions.close[:, 1, 0], whole.close[20:26])
    assert torch.equal(cut.decisions.open[:, 1, 0], whole.open[21:27])
    assert torch.equal(cut.decisions.next_close[:, 1, 0], whole.close[21:27])
    assert torch.equal(cut.step_data.close[-1, 1, 0], whole.close[26])


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


def test_an_asset_that_cannot_be_traded_is_only_held(lively: Build, market: Markets) -> None:
    whole = market()
    whole.tradable[20:24, 1] = False
    rollout = rolled(lively(), windows_of(whole))
    closed = rollout.action[:4, 1, :, 1]
    assert (closed == HOLD).all()
    assert rollout.legal[:4, 1, :, 1].sum() == closed.numel()
    assert (rollout.action[:4, 1, :, 0] != HOLD).any()
    assert (rollout.log_probabilities[:4, 1, :, 1, HOLD] == 0.0).all()


def test_only_legal_actions_are_taken_and_remembered_with_their_probability(lively: Build, market: Markets) -> None:
    trading = TradingParameters(masks=MaskParameters(no_short=["*"]))
    whole = market()._replace(shortable=torch.zeros(2, dtype=torch.bool))
    rollout = rolled(lively(), cut_windows(whole, torch.tensor([10, 20, 25]), STEPS, CONTEXT, trading), trading=trading)
    assert rollout.legal.gather(-1, rollout.action[..., None]).all()
    assert not rollout.legal[1:, ..., 1][rollout.account[1:, ..., 0] >= 0.0].any()  # nobody goes short
    assert (rollout.log_probabilities.exp().sum(-1) - 1.0).abs().max() < 1e-9


def test_rewards_and_account_features_are_those_of_the_actions_taken(lively: Build, market: Markets) -> None:
    """Walk one account again by hand from its remembered first position."""
    whole = market()
    network, windows = lively(), windows_of(whole)
    rollout = rolled(network, windows)
    window, replica = 1, 2
    step_data = make_step_data(whole, torch.arange(20, 26)[:, None], TRADING)
    levels = level_tensor(TRADING, step_data.close)
    account = open_accounts(torch.ones(1, dtype=DOUBLE), 2)
    account = hold_positions(account, rollout.account[0, window, replica, :, 0][None] * 0.5, step_data.close[0])
    for step in range(STEPS):
        place, row = (step, window, replica), step_data.step(step)
        view = position_limits(account, row, TRADING)
        torch.testing.assert_close(rollout.account[place], account_features(account, view, TRADING)[0])
        equity = account.equity
        account, fill = execute(account, view, decode(rollout.action[place][None], levels), row, TRADING)
        net = (fill.price_pnl - fill.commission - fill.spread) / equity
        torch.testing.assert_close(rollout.rewards[place], (net / windows.unit[step, window])[0])


def test_an_account_that_dies_leaves_the_rollout_from_then_on(lively: Build, market: Markets) -> None:
    whole = market()
    whole.close[22:] *= 50.0  # whoever is short here is ruined, whoever holds nothing is not
    whole.open[22:] *= 50.0
    trading = TradingParameters(levels=[-1.0, 0.0], costs=CostParameters(commission_bps=0, half_spread_bps=0))
    windows = cut_windows(whole, torch.tensor([10, 20, 25]), STEPS, CONTEXT, trading)
    rollout = rolled(lively(actions=3), windows, trading=trading)
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


def test_the_bootstrap_is_the_value_of_the_state_after_the_last_step(lively: Build, market: Markets) -> None:
    """A window that is one step longer visits that state as a decision."""
    network, whole = lively(), market()
    short = cut_windows(whole, torch.tensor([10, 20]), 1, CONTEXT, TRADING)
    whole_steps = cut_windows(whole, torch.tensor([10, 20]), 2, CONTEXT, TRADING)
    rollout = collect(network, short, accounts(short, 3, 0), 1.0, TRADING)

    first, second = whole_steps.step_data.step(0), whole_steps.step_data.step(1)
    account = open_accounts(torch.ones(2, 3, dtype=DOUBLE), 2)
    account = hold_positions(account, rollout.account[0, ..., 0] * 0.5, first.close)
    decision = decode(rollout.action[0], level_tensor(TRADING, first.close))
    account, _ = execute(account, position_limits(account, first, TRADING), decision, first, TRADING)
    seen = account_features(account, position_limits(account, second, TRADING), TRADING)
    embedding = network.encoder(whole_steps.features, 3).detach()[:, 1][:, None]  # the bar after the first decision
    hidden = network.head.hidden(network.head.project(embedding, whole_steps.posterior[1]), seen)
    torch.testing.assert_close(rollout.bootstrap, network.head.value(hidden).detach())
