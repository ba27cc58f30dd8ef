"""Averaged weights: exact sums, nothing shared with the network, nothing left of the start."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training.averaging import averaged_weights, with_weights

DOUBLE = torch.float64


def weights_of(*values: float) -> dict[str, torch.Tensor]:
    return {"layer.weight": torch.tensor(values, dtype=DOUBLE)}


def average_of(path: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    average: dict[str, torch.Tensor] = {}
    for update, weights in enumerate(path, start=1):
        average = averaged_weights(average, weights, decay, update)
    return average


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10.0, 10.0), min_size=1, max_size=30), st.floats(0.0, 0.999))
def test_updates_count_by_powers_of_the_decay(path: list[float], decay: float) -> None:
    counts = [decay ** (len(path) - 1 - index) for index in range(len(path))]
    expected = sum(count * value for count, value in zip(counts, path, strict=True)) / sum(counts)
    found = average_of([weights_of(value) for value in path], decay)["layer.weight"]
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_infinite_scale_of_an_unheard_column_stays_infinite() -> None:
    path = [weights_of(math.inf, value) for value in (7.0, 0.0, 14.0)]
    found = average_of(path, 0.5)["layer.weight"]
    assert found.tolist() == pytest.approx([math.inf, (0.25 * 7.0 + 14.0) / 1.75])


def test_three_updates_are_averaged_exactly() -> None:
    found = average_of([weights_of(7.0), weights_of(0.0), weights_of(14.0)], 0.5)["layer.weight"]
    assert found.item() == pytest.approx((0.25 * 7.0 + 0.5 * 0.0 + 14.0) / 1.75)  # 9


def test_the_first_update_and_no_decay_give_the_weights_themselves() -> None:
    first, second = weights_of(0.1, 0.2), weights_of(0.3, 0.7)
    assert torch.equal(averaged_weights({}, first, 0.99, 1)["layer.weight"], first["layer.weight"])
    assert torch.equal(averaged_weights(first, second, 0.0, 2)["layer.weight"], second["layer.weight"])


def test_weights_that_stand_still_stay_bit_for_bit() -> None:
    still = {"mean": torch.randn(50, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(average_of([still] * 40, 0.97)["mean"], still["mean"])


def test_an_average_does_not_change_with_the_network() -> None:
    weights = weights_of(1.0, 2.0)
    kept = [averaged_weights({}, weights, 0.9, 1), averaged_weights(weights_of(3.0, 4.0), weights, 0.0, 2)]
    before = weights_of(5.0, 6.0)
    mixed = averaged_weights(before, weights, 0.9, 2)["layer.weight"].clone()
    weights["layer.weight"].zero_()
    assert all(average["layer.weight"].tolist() == [1.0, 2.0] for average in kept)
    assert before["layer.weight"].tolist() == [5.0, 6.0]
    assert (mixed != 0.0).all()


def test_counters_are_the_latest() -> None:
    found = averaged_weights({"steps": torch.tensor(3)}, {"steps": torch.tensor(9)}, 0.9, 2)
    assert found["steps"].item() == 9


@pytest.mark.parametrize(
    ("decay", "updates", "words"), [(1.0, 2, "`decay`"), (-0.1, 2, "`decay`"), (0.5, 0, "`updates`"), (0.5, 2, "names")]
)
def test_what_cannot_be_averaged_is_refused(decay: float, updates: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        averaged_weights({"other": torch.zeros(1)}, weights_of(1.0), decay, updates)


def test_a_network_is_judged_with_other_weights_and_left_alone(lively: Callable[..., PolicyNetwork]) -> None:
    network, other = lively(seed=1), lively(seed=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    judged = with_weights(network, other.state_dict())
    features = torch.randn(1, 12, 2, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(judged.encoder(features, 3), other.encoder(features, 3))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
