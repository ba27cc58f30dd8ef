"""Networks as arrays of the walk: each account decides as its own agent's torch networks would."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from sentio_kedro.agent import ensemble
from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.ensemble import AgentNetworks, as_one, project_rows
from sentio_kedro.agent.network.distributions import masked_log_probabilities
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.network.head_arrays import head_arrays, head_weights
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training.validation import account_returns
from sentio_kedro.config import FeatureColumn, NetworkParameters, TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.regimes import RegimeModel
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.simulate import make_scratch, net_returns, simulate
from sentio_kedro.trading.step.policies import (
    HEADS,
    SAMPLED,
    Heads,
    Policies,
    make_policies,
    set_probabilities,
    with_heads,
)
from sentio_kedro.trading.step.walk import Ledger

DOUBLE = torch.float64
TRADING = TradingParameters()
FLAT = 1  # of the levels -1, 0, 1
SIZES = NetworkParameters(width=8, layers=2, heads=2, window=4, convolution=3, hidden=8, quantiles=5)
CONTEXT = receptive_field(SIZES) - 1
START, STOP = 12, 30
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def bundle_of(networks: Sequence[PolicyNetwork], **changes: object) -> AgentBundle:
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
        network=networks[0].encoder.parameters_,
        trading=TRADING,
        regimes=regimes,
        train_sharpe=0.0,
        validation_sharpe=0.0,
        hashes={},
    )
    return AgentBundle(replace(spec, **changes), tuple(network.state_dict() for network in networks))  # type: ignore[arg-type]


def policies_of(heads: Heads, kind: int = HEADS, noise: np.ndarray | None = None) -> Policies:
    """One account for each agent of ``heads``."""
    agents, assets = heads.projected.shape[1], heads.projected.shape[3]
    index = np.arange(agents)
    return with_heads(make_policies(np.full(agents, kind), assets, 3, source=index, draws=index, noise=noise), heads)


def walked(
    whole: MarketTensors, policies: Policies, posteriors: Sequence[torch.Tensor], trading: TradingParameters = TRADING
) -> Ledger:
    """Walk the accounts over rows 12 to 30, each with its agent's regime model."""
    facts = market_facts(whole, START, STOP, trading, posteriors)
    accounts = open_accounts(policies.size, whole.assets, trading)
    return simulate(
        facts, accounts, policies, terms_of(trading, whole.assets), models=np.arange(policies.size), trace=True
    )


@torch.no_grad()
def members_probabilities(
    members: Sequence[PolicyNetwork],
    whole: MarketTensors,
    posterior: torch.Tensor,
    features: torch.Tensor,
    legal: torch.Tensor,
) -> torch.Tensor:
    """Mean of the members' probabilities ``[S, A, B]`` at rows 12 to 30, from what an account saw, by torch alone."""
    rows, total = posterior[START:STOP], torch.zeros(legal.shape, dtype=DOUBLE)
    for network in members:
        embedded = network.encoder(whole.features[None, :STOP], STOP - START)[0]
        hidden = network.head.hidden(network.head.project(embedded, rows), features)
        permitted = network.head.permitted(legal)
        total += masked_log_probabilities(network.head.logits(hidden, rows), permitted).exp() / len(members)
    return total


def seen_by(ledger: Ledger, account: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and legal levels ``[S, A, ...]`` of an account at its decisions."""
    return torch.from_numpy(ledger.features[:, account]), torch.from_numpy(ledger.legal[:, account])


def compiled_probabilities(policies: Policies, ledger: Ledger) -> np.ndarray:
    """Probabilities ``[S, A, B]`` of the first agent by the compiled step, from what its account saw."""
    found = np.zeros(ledger.legal[:, 0].shape)
    scratch = make_scratch(open_accounts(1, found.shape[1], TRADING), 3, policies.projected.shape[-1])
    for step, asset in np.ndindex(*found.shape[:2]):
        scratch.features[:], scratch.legal[:] = ledger.features[step, :1], ledger.legal[step, :1]
        set_probabilities(0, step, asset, policies, scratch)
        found[step, asset] = scratch.probabilities[0, :3]
    return found


@torch.no_grad()
def heads_of(members: Sequence[PolicyNetwork], whole: MarketTensors) -> Heads:
    """One agent's networks at rows 12 to 30, embedded one by one."""
    rows = whole.posterior[START:STOP]
    embedded = [network.encoder(whole.features[None, :STOP], STOP - START)[0] for network in members]
    projected = [network.head.project(x, rows) for network, x in zip(members, embedded, strict=True)]
    return head_arrays(
        head_weights([[network.head for network in members]]), torch.stack(projected, 1)[:, None], rows[:, None]
    )


PARTS = pytest.mark.parametrize(
    "parts", [{}, {"masked": False}, {"regime_experts": False}], ids=["masked", "unmasked", "no experts"]
)


def restricted(market: Markets) -> MarketTensors:
    """A market in which the first asset must not be sold short, and the second cannot be traded for a while."""
    whole = market()._replace(shortable=torch.tensor([False, True]))
    whole.tradable[20:24, 1] = False
    return whole


@torch.no_grad()
@PARTS
def test_probabilities_of_the_walk_are_the_mean_of_the_members_legal_probabilities(
    lively: Build, market: Markets, parts: dict[str, object]
) -> None:
    members, whole = [lively(seed=seed, **parts) for seed in (1, 2, 3)], restricted(market)
    policies = policies_of(heads_of(members, whole))
    ledger = walked(whole, policies, [whole.posterior])
    expected = members_probabilities(members, whole, whole.posterior, *seen_by(ledger, 0)).numpy()
    np.testing.assert_allclose(compiled_probabilities(policies, ledger), expected, rtol=0, atol=1e-9)
    assert np.array_equal(ledger.actions[:, 0], expected.argmax(-1))
    assert len(np.unique(ledger.actions)) == 3 or parts == {}
    assert (ledger.actions[8:12, 0, 1] == FLAT).all()
    assert (expected[:, 0, 0] > 0.0).any() == (parts == {"masked": False})  # short is illegal


@torch.no_grad()
@PARTS
def test_sampled_actions_are_drawn_by_gumbel_noise(lively: Build, market: Markets, parts: dict[str, object]) -> None:
    whole, members = restricted(market), [lively(seed=seed, **parts) for seed in (1, 2)]
    noise = np.random.default_rng(0).gumbel(size=(STOP - START, 1, 2, 3))
    policies = policies_of(heads_of(members, whole), SAMPLED, noise)
    ledger = walked(whole, policies, [whole.posterior])
    chances = members_probabilities(members, whole, whole.posterior, *seen_by(ledger, 0)).numpy()
    with np.errstate(divide="ignore"):
        expected = (np.log(chances) + noise[:, 0]).argmax(-1)
    assert np.array_equal(ledger.actions[:, 0], expected)
    assert not np.array_equal(expected, chances.argmax(-1))


@pytest.mark.parametrize(("start", "stop"), [(0, 40), (3, 30), (20, 27), (20, 28), (39, 40)])
def test_embedding_in_pieces_equals_embedding_in_one_go(
    lively: Build, market: Markets, monkeypatch: pytest.MonkeyPatch, start: int, stop: int
) -> None:
    networks, whole = [lively(seed=seed) for seed in (1, 2, 3)], market()
    posteriors = [whole.posterior, whole.posterior, whole.posterior.flip(-1)]
    sizes: list[int] = []
    with torch.no_grad():
        embedded = [network.encoder(whole.features[None], 40)[0] for network in networks]
        parts = zip(networks, embedded, posteriors, strict=True)
        expected = torch.stack([network.head.project(x, posterior) for network, x, posterior in parts], dim=1)
    for network in networks:
        network.encoder.register_forward_pre_hook(lambda _, given: sizes.append(given[1]))
    monkeypatch.setattr(ensemble, "ENCODED_ASSET_BARS", 22)
    found = project_rows(networks, posteriors, whole.features, start, stop, CONTEXT)
    assert max(sizes) <= 11  # of two assets
    torch.testing.assert_close(found, expected[start:stop], rtol=0, atol=1e-9)


@torch.no_grad()
def test_agents_side_by_side_trade_as_each_alone(lively: Build, market: Markets) -> None:
    """Each account follows its own members and reads its own agent's posterior, not the market's."""
    whole = market()
    agents = [[lively(seed=7), lively(seed=8)], [lively(seed=9), lively(seed=11)]]
    posteriors = [whole.posterior, whole.posterior.flip(-1)]
    bundles = [bundle_of(agent) for agent in agents]
    heads = AgentNetworks(bundles, DOUBLE).heads(whole.features, posteriors, START, STOP)
    ledger = walked(whole, policies_of(heads), posteriors)
    returns = net_returns(ledger)
    for index, (bundle, posterior) in enumerate(zip(bundles, posteriors, strict=True)):
        members = bundle.networks(DOUBLE)  # their weights were rounded to float32
        chances = members_probabilities(members, whole, posterior, *seen_by(ledger, index))
        assert np.array_equal(ledger.actions[:, index], chances.argmax(-1))
        own = whole._replace(posterior=posterior)
        validated = account_returns(members, own, [Segment(START, STOP)], CONTEXT, TRADING)
        np.testing.assert_allclose(returns[:, index], validated, rtol=0, atol=1e-12)
        other = whole._replace(posterior=posteriors[1 - index])
        swapped = account_returns(members, other, [Segment(START, STOP)], CONTEXT, TRADING)
        assert not np.allclose(returns[:, index], swapped)
    assert not np.allclose(returns[:, 0], returns[:, 1])


@torch.no_grad()
@pytest.mark.parametrize("traced", [False, True])
def test_the_heads_of_a_single_row_are_those_of_many(lively: Build, market: Markets, traced: bool) -> None:
    whole = market()
    networks = AgentNetworks([bundle_of([lively(seed=7), lively(seed=8)])], DOUBLE, traced=traced)
    many = networks.heads(whole.features, [whole.posterior], START, STOP)
    one = networks.heads(whole.features, [whole.posterior], START + 3, START + 4)
    np.testing.assert_allclose(one.projected[0], many.projected[3], rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.policy_weight[0], many.policy_weight[3], rtol=0, atol=1e-12)
    np.testing.assert_allclose(one.policy_bias[0], many.policy_bias[3], rtol=0, atol=1e-12)


@torch.no_grad()
def test_quantiles_are_those_of_each_members_critic(lively: Build, market: Markets) -> None:
    whole, members = market(), [lively(seed=7), lively(seed=8)]
    networks = AgentNetworks([bundle_of(members)], DOUBLE)
    heads = networks.heads(whole.features, [whole.posterior], 20, 21)
    features = np.random.default_rng(0).random((5, 1, 2, 4))
    found = networks.quantiles(heads, features)  # [..., N, M, A, Q]
    assert found.shape == (5, 1, 2, 2, 5)
    for member, network in enumerate(networks.members[0]):
        embedded = network.encoder(whole.features[None, :21], 1)[0]
        hidden = network.head.hidden(network.head.project(embedded, whole.posterior[20:21]), torch.from_numpy(features))
        torch.testing.assert_close(found[:, :, member], network.head.quantiles(hidden))


@torch.no_grad()
def test_the_likeliest_action_is_that_of_the_mean_probability(lively: Build, market: Markets) -> None:
    """Log probabilities would average to action 2, votes to action 0, probabilities to action 1."""
    answers = (0.5, 0.3, 0.2), (0.5, 0.3, 0.2), (1e-9, 0.58, 0.42)
    members = [lively(seed=seed, regime_experts=False) for seed in range(3)]
    for member, answer in zip(members, answers, strict=True):
        member.head.policy.weight.zero_()
        member.head.policy.bias.copy_(torch.tensor(answer, dtype=DOUBLE).log())
    whole = market()
    projected = torch.zeros(STOP - START, 1, 3, 2, members[0].head.policy.in_features, dtype=DOUBLE)
    posterior = whole.posterior[START:STOP, None]
    policies = policies_of(head_arrays(head_weights([[member.head for member in members]]), projected, posterior))
    ledger = walked(whole, policies, [whole.posterior])
    mean = [1.0 / 3, 1.18 / 3, 0.82 / 3]
    np.testing.assert_allclose(compiled_probabilities(policies, ledger), np.broadcast_to(mean, (18, 2, 3)), atol=1e-9)
    assert (ledger.actions == 1).all()


@pytest.mark.parametrize("closed", [(True, False), (False, True), (True, True), (False, False)])
def test_agents_that_abstain_stay_flat_beside_those_that_do_not(
    lively: Build, market: Markets, closed: tuple[bool, bool]
) -> None:
    whole = market()
    members = [[lively(seed=7), lively(seed=8)], [lively(seed=9), lively(seed=11)]]
    posteriors = [whole.posterior] * 2

    def ledger_of(out: tuple[bool, bool]) -> Ledger:
        agents = [bundle_of(agent, abstains=gone) for agent, gone in zip(members, out, strict=True)]
        return walked(
            whole, policies_of(AgentNetworks(agents, DOUBLE).heads(whole.features, posteriors, START, STOP)), posteriors
        )

    mixed, plain = ledger_of(closed), ledger_of((False, False))
    for index, out in enumerate(closed):
        assert (plain.fills.shares[:, index] != 0.0).any()
        expected = np.full(STOP - START, TRADING.initial_cash) if out else plain.total.equity[:, index]
        assert np.array_equal(mixed.total.equity[:, index], expected)
        assert not out or (mixed.fills.traded[:, index] == 0.0).all()


def test_agents_decide_as_one_by_the_members_of_those_that_do_not_abstain(lively: Build) -> None:
    agents = [
        bundle_of([lively(seed=seed), lively(seed=10 + seed)], seed=seed, required_bars=20 + seed) for seed in range(4)
    ]
    closed = [replace(agent, spec=replace(agent.spec, abstains=True)) for agent in agents]
    merged = as_one(agents[:2])
    assert (merged.spec.members, merged.spec.abstains, merged.spec.required_bars) == (4, False, 21)
    assert merged.weights == (*agents[0].weights, *agents[1].weights)
    voting = as_one([closed[0], *agents[1:]])
    assert (voting.spec.members, voting.spec.abstains) == (6, False)
    assert voting.weights[0] is agents[1].weights[0]
    assert as_one([closed[0], closed[1], *agents[2:]]).spec.abstains  # one more open gate would be a majority
    assert as_one(closed[:1]).spec.abstains
    assert as_one(agents[:1]) == agents[0]


def test_agents_that_are_not_alike_cannot_decide_as_one(lively: Build) -> None:
    one, other = bundle_of([lively()]), bundle_of([lively(seed=1)], seed=1, gamma=0.5)
    with pytest.raises(ValueError, match="their `gamma` differs"):
        as_one([one, other])
    with pytest.raises(ValueError, match="must hold at least one agent"):
        as_one([])
