"""Rollouts: what is remembered is what happened, and only the generator decides it."""

from collections.abc import Callable

import pytest
import torch

from sentio_kedro.agent.networks import PolicyNetwork, receptive_field
from sentio_kedro.agent.rollout import EnsemblePolicy, Rollout, Windows, collect, cut_windows
from sentio_kedro.agent.update import Targets, minibatch_loss, targets
from sentio_kedro.config import CostParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.action_masks import HOLD, decode, legal_actions, level_tensor
from sentio_kedro.trading.environment import account_features
from sentio_kedro.trading.execution import BarPair, execute, open_accounts
from sentio_kedro.trading.simulate import gather_prices

DOUBLE = torch.float64
TRADING = TradingParameters(max_drawdown=0.3)
STEPS, CONTEXT = 6, 8
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def windows_of(market: MarketTensors, starts: tuple[int, ...] = (10, 20, 25)) -> Windows:
    return cut_windows(market, torch.tensor(starts), STEPS, CONTEXT)


def rolled(network: PolicyNetwork, windows: Windows, seed: int = 0, trading: TradingParameters = TRADING) -> Rollout:
    return collect(network, windows, 4, 2.5, trading, torch.Generator().manual_seed(seed))


def test_context_holds_what_an_embedding_needs(lively: Build) -> None:
    assert receptive_field(lively().encoder.parameters_) - 1 == CONTEXT


def test_a_window_holds_its_context_its_decisions_and_the_bar_after(market: Markets) -> None:
    whole = market()
    cut = windows_of(whole)
    assert torch.equal(cut.features[1], whole.features[12:27])  # 8 before 20, 6 decisions, 1 after
    assert torch.equal(cut.posterior[:, 1, 0], whole.posterior[20:27])
    assert torch.equal(cut.volatility[:, 1, 0], whole.volatility[20:26])
    assert torch.equal(cut.prices.close[:, 1, 0], whole.close[20:26])
    assert torch.equal(cut.prices.next_open[:, 1, 0], whole.open[21:27])
    assert torch.equal(cut.prices.next_close[:, 1, 0], whole.close[21:27])
    assert torch.equal(cut.final_close[1, 0], whole.close[26])


def test_the_first_minibatch_has_ratio_one_and_no_divergence(lively: Build, market: Markets) -> None:
    network, windows = lively(), windows_of(market())
    rollout = rolled(network, windows)
    training = TrainingParameters(windows=3, minibatches=1, clip=0.2)
    learned = targets(rollout, training)
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
        _, report = minibatch_loss(network, windows, rollout, Targets(spot, spot), torch.arange(3), training)
        assert report.policy_loss.item() * spot.numel() == pytest.approx(1.0, abs=1e-9)


def test_a_rollout_depends_on_its_generator_alone(lively: Build, market: Markets) -> None:
    network, windows = lively(), windows_of(market())
    torch.manual_seed(1)
    first = rolled(network, windows, seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again, other = rolled(network, windows, seed=5), rolled(network, windows, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
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
    trading = TradingParameters(levels=[-1.0, 0.0, 1.0], max_position=0.3, gross_limit=1.0)  # levels +-1 are too much
    rollout = rolled(lively(), windows_of(market()), trading=trading)
    assert rollout.legal.gather(-1, rollout.action[..., None]).all()
    assert not rollout.legal[..., [1, 3]].any()
    assert (rollout.log_probabilities.exp().sum(-1) - 1.0).abs().max() < 1e-9


def test_rewards_and_account_features_are_those_of_the_actions_taken(lively: Build, market: Markets) -> None:
    """Walk one account again by hand from its remembered first position."""
    network, windows = lively(), windows_of(market())
    rollout = rolled(network, windows)
    levels = level_tensor(TRADING, windows.prices.close)
    window, replica = 1, 2
    close = windows.prices.close[:, window, 0]
    account = open_accounts(torch.ones(1, dtype=DOUBLE), 2)
    shares = rollout.account[0, window, replica, :, 0] * 0.5 / close[0]
    held = (torch.expm1(rollout.account[0, window, replica, :, 2] / 0.2)).round()
    cash = account.cash - (shares * close[0]).sum()
    account = account._replace(shares=shares[None], cash=cash, bars_held=held[None])
    for step in range(STEPS):
        place = (step, window, replica)
        torch.testing.assert_close(rollout.account[place], account_features(account, close[step][None], TRADING)[0])
        bars = BarPair(
            close[step][None],
            windows.prices.next_open[step, window],
            windows.prices.next_close[step, window],
            windows.prices.next_tradable[step, window],
        )
        equity = account.equity
        account, fill = execute(account, decode(rollout.action[place][None], levels), bars, TRADING)
        net = (fill.price_pnl - fill.commission - fill.spread) / equity
        torch.testing.assert_close(rollout.rewards[place], (net / (windows.volatility[step, window] * 0.5))[0])


def test_an_account_that_dies_leaves_the_rollout_from_then_on(lively: Build, market: Markets) -> None:
    whole = market()
    whole.close[22:] *= 50.0  # whoever is short here is ruined, whoever holds nothing is not
    whole.open[22:] *= 50.0
    trading = TradingParameters(levels=[-1.0, 0.0], costs=CostParameters(commission_bps=0, half_spread_bps=0))
    rollout = rolled(lively(actions=3), windows_of(whole), trading=trading)
    assert (rollout.alive[0] == 1.0).all()
    assert torch.equal(rollout.alive[1:], rollout.survived[:-1])
    assert 0.0 < rollout.survived[-1, 1].mean() < 1.0
    assert (rollout.survived.diff(dim=0) <= 0.0).all()  # never again alive
    assert (rollout.rewards[rollout.alive == 0.0] == 0.0).all()
    assert (rollout.rewards[(rollout.alive == 1.0) & (rollout.survived == 0.0)] < 0.0).any()


def test_values_and_bootstrap_are_in_units_of_reward(lively: Build, market: Markets) -> None:
    network, windows = lively(), windows_of(market())
    one = collect(network, windows, 4, 1.0, TRADING, torch.Generator().manual_seed(0))
    scaled = collect(network, windows, 4, 3.0, TRADING, torch.Generator().manual_seed(0))
    torch.testing.assert_close(scaled.values, 3.0 * one.values)
    torch.testing.assert_close(scaled.bootstrap, 3.0 * one.bootstrap)
    assert torch.equal(scaled.rewards, one.rewards)


def test_the_bootstrap_is_the_value_of_the_state_after_the_last_step(lively: Build, market: Markets) -> None:
    """A window that is one step longer visits that state as a decision."""
    network, whole = lively(), market()
    short = cut_windows(whole, torch.tensor([10, 20]), 1, CONTEXT)
    whole_steps = cut_windows(whole, torch.tensor([10, 20]), 2, CONTEXT)
    rollout = collect(network, short, 3, 1.0, TRADING, torch.Generator().manual_seed(0))

    class Replay:
        """Repeats the first action, then looks."""

        def __call__(self, step, account, close, legal):  # type: ignore[no-untyped-def]
            self.seen = account_features(account, close, TRADING)
            return decode(rollout.action[0], level_tensor(TRADING, close))

    replay = Replay()
    start_shares = rollout.account[0, ..., 0] * 0.5 / short.prices.close[0]
    account = open_accounts(torch.ones(2, 3, dtype=DOUBLE), 2)
    account = account._replace(
        shares=start_shares,
        cash=1.0 - (start_shares * short.prices.close[0]).sum(-1),
        bars_held=(start_shares != 0.0).to(DOUBLE),
    )
    prices = whole_steps.prices
    legal = legal_actions(account, prices.close[0], prices.tradable[0], TRADING)
    bars = BarPair(prices.close[0], prices.next_open[0], prices.next_close[0], prices.next_tradable[0])
    account, _ = execute(account, replay(0, account, prices.close[0], legal), bars, TRADING)
    replay(1, account, prices.close[1], legal)
    embedding = network.encoder(whole_steps.features, 3).detach()[:, 1][:, None]  # the bar after the first decision
    hidden = network.head.hidden(network.head.project(embedding, whole_steps.posterior[1]), replay.seen)
    torch.testing.assert_close(rollout.bootstrap, network.head.value(hidden).detach())


def test_an_ensemble_averages_probabilities_and_takes_the_likeliest(market: Markets) -> None:
    class Fixed:
        """A head with constant logits."""

        def __init__(self, *probabilities: float) -> None:
            self.answer = torch.tensor(probabilities, dtype=DOUBLE).log()

        def hidden(self, projected: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
            return seen

        def logits(self, hidden: torch.Tensor, posterior: torch.Tensor) -> torch.Tensor:
            return self.answer.expand(*hidden.shape[:-1], 4)

    whole = market()
    rows = torch.tensor([[10]])
    prices = gather_prices(whole, rows)
    # Log probabilities would average to action 3, votes to action 0, probabilities to action 1.
    heads = [Fixed(0.5, 0.3, 1e-9, 0.2), Fixed(0.5, 0.3, 1e-9, 0.2), Fixed(1e-9, 0.58, 0.2, 0.22)]
    projected = [torch.zeros(1, 1, 2, 1, dtype=DOUBLE)] * 3
    policy = EnsemblePolicy(heads, projected, torch.ones(1, 1, 2, dtype=DOUBLE), TRADING)  # type: ignore[arg-type]
    account = open_accounts(torch.ones(1, dtype=DOUBLE), 2)
    legal = legal_actions(account, prices.close[0], prices.tradable[0], TRADING)
    mean = policy.probabilities(0, account, prices.close[0], legal)
    assert mean[0, 0].tolist() == pytest.approx([1.0 / 3, 1.18 / 3, 0.2 / 3, 0.62 / 3], abs=1e-6)
    decision = policy(0, account, prices.close[0], legal)
    assert decision.level.tolist() == [[-1.0, -1.0]]
    legal[0, 1, 1] = False
    assert policy(0, account, prices.close[0], legal).hold.tolist() == [[False, True]]
    assert [action.tolist() for action in policy.actions] == [[[1, 1]], [[1, 0]]]
