"""Traced encoders give the numbers of the encoders."""

from collections.abc import Callable

import pytest
import torch

from sentio_kedro.agent.network.encoder import NetworkShape, receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.traced import StackedEncoders

SHAPE = NetworkShape(features=3, assets=2, regimes=2, actions=4)


@pytest.mark.parametrize("sizes", [{}, {"layers": 1}, {"encoder": "mlp"}])
def test_members_embedded_together_or_traced_are_each_member_alone(
    lively: Callable[..., PolicyNetwork], sizes: dict[str, str | int]
) -> None:
    members = [lively(seed=seed, **sizes).eval().requires_grad_(requires_grad=False) for seed in (0, 1, 2)]
    encoders = [member.encoder for member in members]
    stacked = StackedEncoders(encoders, SHAPE)
    traced = stacked.traced()
    rows = receptive_field(encoders[0].parameters_)
    draws = torch.Generator().manual_seed(0)
    for length in (rows, rows, max(1, rows - 3)):  # a window at the start of a history is shorter
        window = torch.randn((length, 2, 3), generator=draws, dtype=torch.float64)
        alone = torch.stack([encoder(window[None], 1)[0] for encoder in encoders])
        torch.testing.assert_close(stacked.embed(window), alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(traced(window), alone, rtol=1e-12, atol=1e-12)


def test_members_of_the_same_shape_share_a_trace_and_keep_their_weights(lively: Callable[..., PolicyNetwork]) -> None:
    first, second = ([lively(seed=seed).encoder, lively(seed=seed + 1).encoder] for seed in (0, 5))
    window = torch.randn((receptive_field(first[0].parameters_), 2, 3), dtype=torch.float64)
    with torch.inference_mode():
        found = [StackedEncoders(encoders, SHAPE).traced()(window) for encoders in (first, second)]
        expected = [StackedEncoders(encoders, SHAPE).embed(window) for encoders in (first, second)]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(*found)
