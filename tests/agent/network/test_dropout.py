"""Consistent dropout: what acts and what learns drop the same channels, and nothing else drops any."""

from collections.abc import Callable

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.encoder import draw_dropout, receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.all_action import grid_loss
from sentio_kedro.agent.ppo.grid.positions import draw_grid, position_grid
from sentio_kedro.agent.ppo.grid.values import evaluate_grid
from sentio_kedro.agent.ppo.rollout import RolloutDraws, collect, draw_rollout
from sentio_kedro.agent.ppo.update import UpdateReport, estimate_targets, minibatch_loss, value_scale
from sentio_kedro.agent.training.validation import account_returns
from sentio_kedro.config import TradingParameters, TrainingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors

TRADING = TradingParameters(max_drawdown=0.3)
TRAINING = TrainingParameters(windows=3, minibatches=1)
STEPS, CONTEXT = 5, 8
INDICES = ([0, 1, 2], [2, 0], [1])
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]
Judge = Callable[[Windows, list[int]], tuple[torch.Tensor, UpdateReport]]


def dropping(network: PolicyNetwork, market: MarketTensors, seed: int = 0) -> Windows:
    """Three windows and what their layers leave unchanged."""
    windows = cut_windows(market, torch.tensor([10, 20, 25]), STEPS, CONTEXT, TRADING)
    masks = draw_dropout(network.encoder.parameters_, 3, torch.Generator().manual_seed(seed), windows.features)
    assert masks is not None
    return windows._replace(dropout=masks)


def accounts(windows: Windows, replicas: int, seed: int) -> RolloutDraws:
    """Draws for ``replicas`` accounts per window and three actions."""
    return draw_rollout(windows, replicas, 3, torch.Generator().manual_seed(seed))


def sampled(network: PolicyNetwork, windows: Windows) -> Judge:
    """Act by sampling; then judge windows, as minibatches do."""
    rollout = collect(network, windows, accounts(windows, 4, 0), value_scale(0.9), TRADING)
    learned = estimate_targets(rollout, TRAINING)
    return lambda seen, index: minibatch_loss(network, seen, rollout, learned, torch.tensor(index), TRAINING)


def all_action(network: PolicyNetwork, windows: Windows) -> Judge:
    """Value all actions; then judge windows, as minibatches do."""
    grid = position_grid(windows, TRADING, draw_grid(windows, len(TRADING.levels), torch.Generator().manual_seed(0)))
    learned = evaluate_grid(network, windows, grid, TRAINING)
    return lambda seen, index: grid_loss(network, seen, grid, learned, torch.tensor(index), TRAINING)


@pytest.mark.parametrize("act", [sampled, all_action])
@pytest.mark.parametrize("encoder", ["transformer", "mlp"])
def test_the_first_minibatch_has_no_divergence_with_dropout_on(
    lively: Build, market: Markets, act: Callable[[PolicyNetwork, Windows], Judge], encoder: str
) -> None:
    network = lively(dropout=0.5, encoder=encoder)
    windows = dropping(network, market())
    loss_of = act(network, windows)
    for index in INDICES:
        _, report = loss_of(windows, index)
        assert report.kl.abs().item() < 1e-12
    wrong = dropping(network, market(), seed=1)  # other masks, or none, are another policy
    for other in (wrong, windows._replace(dropout=None)):
        _, report = loss_of(other, [0, 1, 2])
        assert report.kl.item() > 1e-3


def test_every_ratio_is_one_in_the_first_minibatch_with_dropout_on(lively: Build, market: Markets) -> None:
    network = lively(dropout=0.5)
    windows = dropping(network, market())
    rollout = collect(network, windows, accounts(windows, 4, 0), value_scale(0.9), TRADING)
    learned = estimate_targets(rollout, TRAINING)
    for index in INDICES:
        _, report = minibatch_loss(network, windows, rollout, learned, torch.tensor(index), TRAINING)
        assert report.policy_loss.item() == pytest.approx(-learned.advantages[:, index].mean().item(), abs=1e-9)


@pytest.mark.parametrize("act", [sampled, all_action])
def test_the_first_minibatch_has_no_divergence_where_actions_are_illegal(
    lively: Build, market: Markets, act: Callable[[PolicyNetwork, Windows], Judge]
) -> None:
    network, whole = lively(dropout=0.5), market()
    whole.tradable[12:16, 0] = False  # no choice
    whole = whole._replace(shortable=torch.tensor([True, False]))
    windows = dropping(network, whole)
    loss_of = act(network, windows)
    for index in INDICES:
        _, report = loss_of(windows, index)
        assert report.kl.abs().item() < 1e-12


def test_windows_are_cut_without_dropout_and_judged_without_it(lively: Build, market: Markets) -> None:
    whole = market()
    network, plain = lively(dropout=0.5), lively()
    plain.load_state_dict(network.state_dict())
    context = receptive_field(network.encoder.parameters_) - 1
    assert cut_windows(whole, torch.tensor([10]), STEPS, context, TRADING).dropout is None
    returns = [account_returns([member], whole, [Segment(10, 39)], context, TRADING) for member in (network, plain)]
    assert torch.equal(*returns)
    assert returns[0].abs().max() > 0.0
