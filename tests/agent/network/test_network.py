"""The network: its head reads market, regime and account, and its parts do what their names say."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import Head, PolicyNetwork, build_network, head_width, load_network, rising
from sentio_kedro.agent.ppo.all_action import grid_loss
from sentio_kedro.agent.ppo.grid.positions import draw_grid, position_grid
from sentio_kedro.agent.ppo.grid.values import evaluate_grid
from sentio_kedro.agent.ppo.rollout import collect, draw_rollout
from sentio_kedro.agent.ppo.update import estimate_targets, minibatch_loss
from sentio_kedro.config import MaskParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

DOUBLE = torch.float64
FLAT = 1  # of the levels -1, 0, 1
SIZES = NetworkParameters(width=8, layers=2, heads=2, window=4, convolution=3, hidden=8, quantiles=5)
NO_SHORT = TradingParameters(masks=MaskParameters(no_short=["*"]))
TRAINING = TrainingParameters(windows=3, minibatches=1)
VARIANTS: tuple[dict[str, object], ...] = (
    {},
    {"encoder": "mlp"},
    {"asset_attention": False},
    {"regime_experts": False},
    {"quantiles": 1},
    {"masked": False},
    {"checkpoint_layers": True},
)
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def restricted(market: Markets) -> MarketTensors:
    """A market in which nobody may go short, and the second asset cannot be traded for a while."""
    whole = market()._replace(shortable=torch.zeros(2, dtype=torch.bool))
    whole.tradable[20:24, 1] = False
    return whole


def restricted_windows(market: Markets) -> Windows:
    return cut_windows(restricted(market), torch.tensor([10, 20, 25]), 6, 8, NO_SHORT)


@given(st.integers(2, 12), st.integers(0, 1000), st.sampled_from([0.1, 5.0, 100.0]))
@settings(max_examples=30, deadline=None)
def test_quantiles_never_cross_and_their_mean_is_the_first_output(count: int, seed: int, scale: float) -> None:
    raw = scale * normal(4, count, seed=seed)
    found = rising(raw)
    assert (found.diff(dim=-1) >= -1e-12 * scale).all()  # up to rounding
    torch.testing.assert_close(found.mean(-1), raw[:, 0])


@torch.no_grad()
def test_the_value_is_the_mean_of_the_quantiles(lively: Build) -> None:
    head = lively().head
    hidden = normal(4, 2, 8)
    assert head.quantiles(hidden).std(dim=(0, 1)).min() > 0.1
    torch.testing.assert_close(head.value(hidden), head.quantiles(hidden).mean(-1))


@torch.no_grad()
def test_a_scalar_critic_tells_its_value_alone(lively: Build) -> None:
    head = lively(quantiles=1).head
    hidden = normal(4, 2, 8)
    assert head.quantiles(hidden).shape == (4, 2, 1)
    assert torch.equal(head.quantiles(hidden)[..., 0], head.value(hidden))
    assert head.value(hidden).std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("state", [0, 1, 2])
def test_a_certain_regime_picks_its_expert(lively: Build, state: int) -> None:
    head = lively(regimes=3).head
    hidden = normal(5, 2, 8)
    certain = torch.eye(3, dtype=DOUBLE)[state].expand(5, 3)
    rows = slice(state * 3, (state + 1) * 3)
    expert = hidden @ head.policy.weight[rows].T + head.policy.bias[rows]
    torch.testing.assert_close(head.logits(hidden, certain), expert)


@torch.no_grad()
def test_an_uncertain_regime_mixes_the_experts_by_probability(lively: Build) -> None:
    head = lively(regimes=2).head
    hidden = normal(5, 2, 8)
    first, second = (head.logits(hidden, row.expand(5, 2)) for row in torch.eye(2, dtype=DOUBLE))
    mixed = head.logits(hidden, torch.tensor([0.3, 0.7], dtype=DOUBLE).expand(5, 2))
    torch.testing.assert_close(mixed, 0.3 * first + 0.7 * second)


@torch.no_grad()
def test_without_experts_one_policy_serves_every_regime(lively: Build) -> None:
    network = lively(regimes=3, regime_experts=False)
    head = network.head
    hidden = normal(5, 2, head.market.out_features)
    found = [head.logits(hidden, row.expand(5, 3)) for row in torch.eye(3, dtype=DOUBLE)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert head.policy.out_features == 3
    embedding, account = normal(5, 2, 8), normal(5, 2, 4)  # the regime still reaches the hidden layer
    calm, wild = (head.hidden(head.project(embedding, row.expand(5, 3)), account) for row in torch.eye(3).double()[:2])
    assert not torch.allclose(calm, wild)


def test_a_head_without_experts_has_as_many_parameters() -> None:
    for regimes in (1, 2, 3, 5):
        shape = NetworkShape(3, 2, regimes, 4)
        counts = []
        for gated in (True, False):
            parameters = NetworkParameters(regime_experts=gated)
            head = Head(parameters, shape)
            counts.append(sum(weight.numel() for weight in head.parameters()))
            assert head.market.out_features == head_width(parameters, shape)
        unit = 16 + regimes + 1 + 4 + 4 + 51  # weights that one more hidden unit adds
        assert abs(counts[0] - counts[1]) <= unit / 2
        assert (counts[0] == counts[1]) == (regimes == 1)


@torch.no_grad()
def test_account_and_regime_both_reach_the_hidden_layer(lively: Build) -> None:
    head = lively().head
    embedding, posterior, account = normal(3, 2, 8), normal(3, 2).softmax(-1), normal(3, 2, 4)
    hidden = head.hidden(head.project(embedding, posterior), account)
    assert not torch.allclose(hidden, head.hidden(head.project(embedding, posterior.flip(-1)), account))
    assert not torch.allclose(hidden, head.hidden(head.project(embedding, posterior), -account))


def test_a_policy_without_a_mask_may_do_anything_but_trade_what_cannot_be_traded(lively: Build) -> None:
    legal = torch.tensor([[True, False, True, True], [False, True, True, False], [True, False, False, False]])
    assert torch.equal(lively().head.permitted(legal), legal)
    found = lively(masked=False).head.permitted(legal)
    assert found.tolist() == [[True] * 4, [True] * 4, [True, False, False, False]]
    assert torch.equal(lively(masked=False).head.permitted(found), found)


def test_accounts_without_a_mask_sample_what_is_illegal_and_learn_from_it(lively: Build, market: Markets) -> None:
    network, windows = lively(masked=False), restricted_windows(market)
    rollout = collect(network, windows, draw_rollout(windows, 4, 3, torch.Generator().manual_seed(0)), 1.0, NO_SHORT)
    taken = rollout.legal.gather(-1, rollout.action[..., None])[..., 0]
    assert not taken.all()
    assert (rollout.action[:4, 1, :, 1] == FLAT).all()  # the second asset cannot be traded
    assert (rollout.log_probabilities[:4, 1, :, 1, FLAT] == 0.0).all()
    learned = estimate_targets(rollout, TRAINING)
    _, report = minibatch_loss(network, windows, rollout, learned, torch.tensor([2, 0, 1]), TRAINING)
    assert report.kl.abs().item() < 1e-12
    assert report.policy_loss.item() == pytest.approx(-learned.advantages.mean().item(), abs=1e-9)


def test_the_grid_without_a_mask_gives_weight_to_what_is_illegal(lively: Build, market: Markets) -> None:
    windows = restricted_windows(market)
    grid = position_grid(windows, NO_SHORT, draw_grid(windows, len(NO_SHORT.levels), torch.Generator().manual_seed(0)))
    free = (grid.legal.sum(-1, keepdim=True) > 1).expand_as(grid.legal)
    for masked in (True, False):
        network = lively(masked=masked)
        learned = evaluate_grid(network, windows, grid, TRAINING)
        chances = learned.log_probabilities.exp()
        assert (chances[~grid.legal & free] > 0.0).any() != masked
        assert (chances[~free & ~grid.legal] == 0.0).all()
        _, report = grid_loss(network, windows, grid, learned, torch.tensor([1, 2]), TRAINING)
        assert report.kl.abs().item() < 1e-12


def test_a_network_depends_on_its_generator_alone_and_leaves_the_global_one_untouched() -> None:
    shape = NetworkShape(3, 2, 2, 4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_network(SIZES, shape, torch.Generator().manual_seed(7)).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = build_network(SIZES, shape, torch.Generator().manual_seed(7)).state_dict()
    other = build_network(SIZES, shape, torch.Generator().manual_seed(8)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.taps"], other["encoder.taps"])


@torch.no_grad()
@pytest.mark.parametrize("parts", VARIANTS, ids=str)
def test_a_new_policy_is_nearly_uniform(parts: dict[str, object]) -> None:
    parameters = NetworkParameters(**{**vars(SIZES), **parts})  # type: ignore[arg-type]
    network = build_network(parameters, NetworkShape(3, 2, 2, 4), torch.Generator().manual_seed(0))
    posterior = torch.full((50, 2), 0.5)
    projected = network.head.project(network.encoder(normal(1, 60, 2, 3).float(), 50)[0], posterior)
    logits = network.head.logits(network.head.hidden(projected, normal(50, 2, 4).float()), posterior)
    assert logits.shape == (50, 2, 4)
    assert 0.0 < logits.abs().max() < 0.1


@pytest.mark.parametrize("parts", VARIANTS, ids=str)
def test_every_weight_gets_a_gradient(lively: Build, parts: dict[str, object]) -> None:
    network = lively(**parts)
    posterior = normal(1, 6, 2).softmax(-1)
    projected = network.head.project(network.encoder(normal(1, 12, 2, 3), 6), posterior)
    hidden = network.head.hidden(projected, normal(6, 2, 4))
    (network.head.logits(hidden, posterior).square().sum() + network.head.quantiles(hidden).square().sum()).backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


def test_loading_weights_draws_nothing_from_the_global_generator() -> None:
    shape = NetworkShape(3, 2, 2, 4)
    network = build_network(SIZES, shape, torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    again = load_network(SIZES, shape, network.state_dict())
    assert torch.equal(torch.get_rng_state(), before)  # another thread may be building from it
    pairs = zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
