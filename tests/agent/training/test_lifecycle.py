"""Selection of weights: the latest, unless earlier ones lead by more than luck explains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.constraints import first_tail
from sentio_kedro.agent.training.lifecycle import MemberRun, conclude_update
from sentio_kedro.agent.training.member import Member, MemberKey, restore, snapshot
from sentio_kedro.agent.training.validation import Score, sharpe_lead
from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters

DOUBLE = torch.float64
TRAINING = TrainingParameters(windows=4, replicas=2, episode_bars=10, total_steps=12_000, validations=100, device="cpu")
NETWORK = NetworkParameters(width=8, layers=2, heads=2, window=4, convolution=3, hidden=8, quantiles=5)
Build = Callable[..., PolicyNetwork]


class Nowhere:
    """Stores no checkpoints and ignores progress."""

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Store nothing."""

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Ignore it."""

    def stop(self) -> None:
        """Stop nothing."""


def make_member(network: PolicyNetwork) -> Member:
    zero = torch.zeros((), dtype=DOUBLE)
    return Member(network, torch.optim.AdamW(network.parameters()), zero, first_tail(zero))


def earned(fall: float, seed: int = 0) -> Tensor:
    """Returns on 100 rows, much alike for all seeds, whose mean is ``0.5 - fall`` of their deviation."""
    shared, own = (torch.randn(100, generator=torch.Generator().manual_seed(one), dtype=DOUBLE) for one in (99, seed))
    swings = shared + 0.2 * own
    return 0.01 * ((swings - swings.mean()) / swings.std() + 0.5 - fall)


def validate_once(member: Member, returns: Tensor, margin: float) -> None:
    """One more update, which moves all weights, and a validation."""
    member.updates_done += 1
    with torch.no_grad():
        for weight in member.network.parameters():
            weight.fill_(float(member.updates_done))
    score, training = Score.of([returns, returns], 252.0), replace(TRAINING, selection_margin=margin)
    row = {"update": float(member.updates_done)}
    parameters, nowhere = AgentParameters(NETWORK, training, TradingParameters()), Nowhere()
    member_run = MemberRun(None, MemberKey(0, 0, 0), member)  # type: ignore[arg-type]
    assert not conclude_update(member_run, row, score, parameters, nowhere, nowhere)


def kept_updates(network: PolicyNetwork, path: Sequence[Tensor], margin: float) -> list[int]:
    """Which update's weights are kept after each judgement of the path."""
    member, kept = make_member(network), []
    for returns in path:
        validate_once(member, returns, margin)
        kept.append(member.selected_update)
        weights = dict(member.network.named_parameters())
        assert all(
            (member.selected_weights[name] == member.selected_update).all() for name in weights
        )  # those of that update, copied
        assert member.selected_weights.keys() == member.network.state_dict().keys()
    scores = [row["validation_sharpe"] for row in member.curve]
    assert member.best_score == max(scores)
    assert torch.equal(member.best_returns, path[scores.index(max(scores))])
    return kept


def test_without_a_margin_the_best_score_is_kept_however_small_its_lead(lively: Build) -> None:
    path = [earned(fall, seed) for seed, fall in enumerate((0.1, 0.2, 0.0, 1e-6, 0.05, -0.2, 0.3))]
    assert 0.0 < sharpe_lead(path[2], path[3]) < 1e-3
    assert kept_updates(lively(), path, 0.0) == [1, 1, 3, 3, 3, 6, 6]
    assert kept_updates(lively(), [path[0], path[0].clone()], 0.0) == [1, 1]  # no lead at all


def test_a_lead_within_the_margin_keeps_the_latest_and_a_clear_one_the_best(lively: Build) -> None:
    path = [earned(fall, seed) for seed, fall in enumerate((0.0, 0.02, 0.3, 0.01, -0.5, 0.0))]
    best = [sharpe_lead(path[0], other) for other in path[1:4]] + [sharpe_lead(path[4], path[5])]
    assert 0.0 < best[0] < 2.0 < best[1]
    assert 0.0 < best[2] < 2.0 < best[3]
    assert kept_updates(lively(), path, 2.0) == [1, 2, 2, 4, 5, 5]


def test_a_lead_is_measured_in_standard_errors_and_compared_with_the_margin(lively: Build) -> None:
    path = [earned(0.0, 1), earned(0.05, 2)]
    exact = sharpe_lead(*path)
    assert exact > 1.0
    assert kept_updates(lively(), path, exact + 1e-9) == [1, 2]
    assert kept_updates(lively(), path, exact - 1e-9) == [1, 1]


def test_weights_that_get_worse_step_by_step_are_compared_with_the_best_and_not_with_the_kept(lively: Build) -> None:
    path = [earned(fall, seed) for seed, fall in enumerate((0.0, 0.04, 0.08))]
    assert max(sharpe_lead(path[0], path[1]), sharpe_lead(path[1], path[2])) < 2.0 < sharpe_lead(path[0], path[2])
    assert kept_updates(lively(), path, 2.0) == [1, 2, 2]


@pytest.mark.parametrize("single", [False, True], ids=["double", "single"])
def test_a_restored_member_knows_to_the_bit_what_led_and_what_is_kept(lively: Build, single: bool) -> None:
    path = [earned(0.0, 0), earned(0.02, 1)]
    path = [returns.float() for returns in path] if single else path
    member, again = make_member(lively()), make_member(lively(seed=5))
    for returns in path:
        validate_once(member, returns, 2.0)
    restore(again, snapshot(member))
    assert (member.updates_done, member.selected_update) == (again.updates_done, again.selected_update) == (2, 2)
    assert member.best_score == again.best_score
    assert torch.equal(again.best_returns, path[0])
    assert again.best_returns.dtype == path[0].dtype
    assert all(torch.equal(again.selected_weights[name], value) for name, value in member.selected_weights.items())
    for one in (member, again):
        validate_once(one, earned(0.3, 2).to(path[0].dtype), 2.0)
        assert one.selected_update == 2


def test_a_checkpoint_that_does_not_know_what_led_is_refused(lively: Build) -> None:
    tensors, state = snapshot(make_member(lively()))
    del tensors["learner.best_returns"]
    with pytest.raises(ValueError, match=r"lacks the learner's state: .* delete it and train again"):
        restore(make_member(lively()), (tensors, state))
