"""Ensemble policies: each account gets its own agent's decision, however long the history is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from sentio_kedro.agent import ensemble
from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.ensemble import AgentsPolicy, BatchedPolicies, agents_policy, encode_rows
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training.validation import chunk_returns
from sentio_kedro.config import FeatureColumn, NetworkParameters, TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.regimes import RegimeModel
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import AccountState, Decision, Fill, open_accounts
from sentio_kedro.trading.action_masks import decode, legal_actions, level_tensor
from sentio_kedro.trading.observations import account_features
from sentio_kedro.trading.position_limits import PositionLimits, position_limits
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.simulate import PolicyTrace, simulate
from sentio_kedro.trading.step_data import StepData

DOUBLE = torch.float64
TRADING = TradingParameters()
SIZES = NetworkParameters(width=8, layers=2, heads=2, window=4, convolution=3, hidden=8, quantiles=5)
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


class Remembering:
    """Always asks for one level, and remembers whose account it was shown."""

    inputs: PolicyTrace = ()

    def __init__(self, level: float, hold: bool = False) -> None:
        self.level, self.hold = level, hold
        self.cash: list[float] = []

    def decide(
        self, inputs: PolicyTrace, account: AccountState, view: PositionLimits, legal: torch.Tensor
    ) -> tuple[Decision, PolicyTrace]:
        assert legal.shape == (*account.shares.shape, 4)
        assert view.position.shape == view.cap.shape == account.shares.shape
        self.cash += account.cash.tolist()
        level = torch.full_like(account.shares, self.level)
        return Decision(level, torch.full(account.shares.shape, self.hold)), ()


def step_data_of(whole: MarketTensors, start: int, stop: int) -> StepData:
    return make_step_data(whole, torch.arange(start, stop)[:, None], TRADING)


def test_each_account_gets_its_own_policys_decision(market: Markets) -> None:
    policies = [Remembering(1.0), Remembering(-1.0), Remembering(0.0, hold=True)]
    account = open_accounts(torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=DOUBLE), 2)
    row = step_data_of(market(), 10, 11).step(0)
    view = position_limits(account, row, TRADING)
    legal = legal_actions(account, view, row, TRADING)
    decision, _ = BatchedPolicies(list(zip(policies, (1, 2, 1), strict=True))).decide((), account, view, legal)
    assert decision.level.tolist() == [[1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]]
    assert decision.hold.tolist() == [[False, False], [False, False], [False, False], [True, True]]
    assert [policy.cash for policy in policies] == [[10.0], [20.0, 30.0], [40.0]]


def test_side_by_side_walks_like_each_agent_alone(market: Markets) -> None:
    step_data = step_data_of(market(), 10, 16)
    together, _ = simulate(
        step_data,
        BatchedPolicies([(Remembering(1.0), 1), (Remembering(-1.0), 1)]),
        open_accounts(torch.ones(2, dtype=DOUBLE), 2),
        TRADING,
    )
    for index, level in enumerate((1.0, -1.0)):
        alone, _ = simulate(step_data, Remembering(level), open_accounts(torch.ones(1, dtype=DOUBLE), 2), TRADING)
        assert together.equity[index].item() == alone.equity.item()


def test_at_the_last_step_every_account_leaves_its_positions(market: Markets) -> None:
    step_data = step_data_of(market(), 10, 16)
    policies = [Remembering(1.0), Remembering(-1.0)]
    leave = torch.tensor([[False, False]] * 5 + [[True, True]])
    account, (fill, _) = simulate(
        step_data,
        BatchedPolicies([(policy, 1) for policy in policies], leave),
        open_accounts(torch.ones(2, dtype=DOUBLE), 2),
        TRADING,
    )
    assert (fill.shares[4] != 0.0).all()
    assert (account.shares == 0.0).all()
    account, _ = simulate(
        step_data,
        BatchedPolicies([(policy, 1) for policy in policies]),
        open_accounts(torch.ones(2, dtype=DOUBLE), 2),
        TRADING,
    )
    assert (account.shares != 0.0).all()


@pytest.mark.parametrize(("start", "stop"), [(0, 40), (3, 30), (20, 27), (20, 28), (39, 40)])
def test_embedding_in_pieces_equals_embedding_in_one_go(
    lively: Build, market: Markets, monkeypatch: pytest.MonkeyPatch, start: int, stop: int
) -> None:
    encoder, features = lively().encoder, market().features
    whole = encoder(features[None], 40)[0, start:stop]
    sizes: list[int] = []
    encoder.register_forward_pre_hook(lambda _, given: sizes.append(given[1]))
    monkeypatch.setattr(ensemble, "ENCODED_BARS", 7)
    found = encode_rows(encoder, features, start, stop, receptive_field(SIZES) - 1)
    assert max(sizes) <= 7
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)


def bundle_of(networks: list[PolicyNetwork]) -> AgentBundle:
    regimes = RegimeModel(
        np.zeros(2), np.array([0.01, 0.02]), np.full((2, 2), 0.5), np.array([0.5, 0.5]), memory=4
    ).to_dict()
    spec = AgentSpec(
        fold=0,
        seed=0,
        members=len(networks),
        symbols=["A", "B"],
        periods_per_year=252.0,
        gamma=0.9,
        required_bars=20,
        train_start="2020-01-01",
        train_end="2020-02-01",
        features=[FeatureColumn(name=name, indicator="log_return") for name in "abc"],
        network=SIZES,
        trading=TRADING,
        regimes=regimes,
        train_sharpe=0.0,
        validation_sharpe=0.0,
        hashes={},
    )
    return AgentBundle(spec, tuple(network.state_dict() for network in networks))


class MemberByMember:
    """One agent, its members asked one by one: the likeliest action under the mean of their legal probabilities."""

    def __init__(self, members: list[PolicyNetwork], whole: MarketTensors, start: int, stop: int) -> None:
        self.heads = [network.head for network in members]
        self.levels = level_tensor(TRADING, whole.close)
        posterior = whole.posterior[start:stop]
        encoded = (network.encoder(whole.features[None, :stop], stop - start)[0] for network in members)
        projected = [head.project(rows, posterior)[:, None] for head, rows in zip(self.heads, encoded, strict=True)]
        self.inputs: PolicyTrace = (posterior[:, None], *projected)  # [S, 1, K] and each member's [S, 1, A, hidden]

    def decide(
        self, inputs: PolicyTrace, account: AccountState, view: PositionLimits, legal: torch.Tensor
    ) -> tuple[Decision, PolicyTrace]:
        posterior, *projected = inputs
        features = account_features(account, view, TRADING)
        total = torch.zeros(legal.shape, dtype=DOUBLE)
        for head, rows in zip(self.heads, projected, strict=True):
            logits = head.logits(head.hidden(rows, features), posterior)
            total += logits.masked_fill(~legal, float("-inf")).softmax(-1)
        return decode(total.argmax(-1), self.levels), ()


@torch.no_grad()
def test_agents_side_by_side_trade_as_each_alone(lively: Build, market: Markets) -> None:
    """Each account follows its own members and reads its own agent's posterior, not the market's."""
    whole = market()
    agents = [[lively(seed=7), lively(seed=8)], [lively(seed=9), lively(seed=11)]]
    posteriors = [whole.posterior, whole.posterior.flip(-1)]
    step_data = step_data_of(whole, 12, 30)

    def returns_alone(members: list[PolicyNetwork], seen: MarketTensors) -> torch.Tensor:
        account = open_accounts(torch.ones(1, dtype=DOUBLE), 2)
        _, (fill, _) = simulate(step_data, MemberByMember(members, seen, 12, 30), account, TRADING)
        return (fill.equity / fill.equity_before - 1.0)[:, 0]

    policy = agents_policy([bundle_of(agent) for agent in agents], whole, posteriors, 12, 30)
    _, (fill, record) = simulate(step_data, policy, open_accounts(torch.ones(2, dtype=DOUBLE), 2), TRADING)
    assert record[0].shape == (18, 2, 2)  # actions
    returns = fill.equity / fill.equity_before - 1.0
    context = receptive_field(SIZES) - 1
    for index, (agent, posterior) in enumerate(zip(agents, posteriors, strict=True)):
        own = whole._replace(posterior=posterior)
        expected = returns_alone(agent, own)
        torch.testing.assert_close(returns[:, index], expected, rtol=0, atol=1e-9)
        validated = chunk_returns(agent, own, [Segment(12, 30)], 18, context, TRADING)
        torch.testing.assert_close(validated, expected, rtol=0, atol=1e-9)
        other = returns_alone(agent, whole._replace(posterior=posteriors[1 - index]))
        assert not torch.allclose(returns[:, index], other)
    assert not torch.allclose(returns[:, 0], returns[:, 1])


@torch.no_grad()
def test_an_agent_averages_its_members_probabilities_and_not_their_logarithms(lively: Build, market: Markets) -> None:
    whole, members = market(), [lively(seed=seed) for seed in (7, 8, 9)]
    policy = agents_policy([bundle_of(members)], whole, [whole.posterior], 20, 21)
    account, row = open_accounts(torch.ones(1, dtype=DOUBLE), 2), step_data_of(whole, 20, 21).step(0)
    view = position_limits(account, row, TRADING)
    legal = legal_actions(account, view, row, TRADING)
    legal[0, 1, 3] = False
    expected = torch.zeros(2, 4, dtype=DOUBLE)
    for network in members:
        projected = network.head.project(network.encoder(whole.features[None, :21], 1)[0, 0], whole.posterior[20])
        hidden = network.head.hidden(projected, account_features(account, view, TRADING)[0])
        logits = network.head.logits(hidden, whole.posterior[20]).masked_fill(~legal[0], float("-inf"))
        expected += logits.softmax(-1) / 3
    found = policy.probabilities(tuple(x[0] for x in policy.inputs), account, view, legal)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # a bundle keeps its weights in float32


@torch.no_grad()
def test_the_likeliest_action_is_that_of_the_mean_probability(lively: Build, market: Markets) -> None:
    """Log probabilities would average to action 3, votes to action 0, probabilities to action 1."""
    answers = (0.5, 0.3, 1e-9, 0.2), (0.5, 0.3, 1e-9, 0.2), (1e-9, 0.58, 0.2, 0.22)
    members = [lively(seed=seed, regime_experts=False) for seed in range(3)]
    for member, answer in zip(members, answers, strict=True):
        member.head.policy.weight.zero_()
        member.head.policy.bias.copy_(torch.tensor(answer, dtype=DOUBLE).log())
    projected = torch.zeros(1, 1, 3, 2, members[0].head.policy.in_features, dtype=DOUBLE)  # [S, N, M, A, hidden]
    policy = AgentsPolicy([[member.head for member in members]], projected, torch.ones(1, 1, 2, dtype=DOUBLE), TRADING)
    account, row = open_accounts(torch.ones(1, dtype=DOUBLE), 2), step_data_of(market(), 10, 11).step(0)
    view = position_limits(account, row, TRADING)
    legal = legal_actions(account, view, row, TRADING)
    inputs = tuple(x[0] for x in policy.inputs)
    mean = policy.probabilities(inputs, account, view, legal)
    assert mean[0, 0].tolist() == pytest.approx([1.0 / 3, 1.18 / 3, 0.2 / 3, 0.62 / 3], abs=1e-6)
    decision, (action, _) = policy.decide(inputs, account, view, legal)
    assert decision.level.tolist() == [[-1.0, -1.0]]
    assert action.tolist() == [[1, 1]]
    legal[0, 1, 1] = False
    decision, (action, _) = policy.decide(inputs, account, view, legal)
    assert decision.hold.tolist() == [[False, True]]
    assert action.tolist() == [[1, 0]]


def abstaining(networks: list[PolicyNetwork]) -> AgentBundle:
    bundle = bundle_of(networks)
    return replace(bundle, spec=replace(bundle.spec, validation_t=0.3, abstains=True))


@pytest.mark.parametrize("closed", [(True, False), (False, True), (True, True), (False, False)])
def test_agents_that_abstain_stay_flat_beside_those_that_do_not(
    lively: Build, market: Markets, closed: tuple[bool, bool]
) -> None:
    whole = market()
    members = [[lively(seed=7), lively(seed=8)], [lively(seed=9), lively(seed=11)]]
    make = {True: abstaining, False: bundle_of}
    posteriors = [whole.posterior] * 2

    def walked(agents: list[AgentBundle]) -> Fill:
        account = open_accounts(torch.ones(2, dtype=DOUBLE), 2)
        policy = agents_policy(agents, whole, posteriors, 12, 30)
        _, (fill, _) = simulate(step_data_of(whole, 12, 30), policy, account, TRADING)
        return fill

    mixed = walked([make[out](agent) for out, agent in zip(closed, members, strict=True)])
    plain = walked([bundle_of(agent) for agent in members])
    for index, out in enumerate(closed):
        assert (plain.shares[:, index] != 0.0).any()
        assert torch.equal(mixed.equity[:, index], torch.ones(18, dtype=DOUBLE) if out else plain.equity[:, index])
        assert not out or (mixed.traded[:, index] == 0.0).all()


@torch.no_grad()
def test_an_agent_that_abstains_leaves_what_can_be_traded_and_holds_the_rest(lively: Build, market: Markets) -> None:
    whole = market()
    whole.tradable[20, 1] = False
    policy = agents_policy([bundle_of([lively()]), abstaining([lively()])], whole, [whole.posterior] * 2, 20, 21)
    account = open_accounts(torch.ones(2, dtype=DOUBLE), 2)
    account = account._replace(shares=torch.full((2, 2), 0.004, dtype=DOUBLE))
    row = step_data_of(whole, 20, 21).step(0)
    view = position_limits(account, row, TRADING)
    legal = legal_actions(account, view, row, TRADING)
    inputs = tuple(x[0] for x in policy.inputs)
    decision, (action, _) = policy.decide(inputs, account, view, legal)
    assert action[1].tolist() == [2, 0]  # levels are -1, 0, 1; the first action is HOLD
    assert decision.level[1].tolist() == [0.0, 0.0]
    assert decision.hold[1].tolist() == [False, True]
    paths = [x[None].expand(3, *x.shape) for x in inputs]  # a batch of variants of both agents
    many = AccountState._make(x[None].expand(3, *x.shape) for x in account)
    shown = position_limits(many, row, TRADING)
    _, (actions, _) = policy.decide(tuple(paths), many, shown, legal_actions(many, shown, row, TRADING))
    assert torch.equal(actions, action[None].expand(3, 2, 2))
