"""Random signs mirror prices, not volume or sizes: what of these foretells the return turns with the bar."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.data.paths import PathSampler
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.network.encoder import SCALED_LIMIT, Encoder, NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.agent.training.member import Member, MemberKey, new_member
from sentio_kedro.config import (
    AgentParameters,
    FeatureColumn,
    NetworkParameters,
    ResamplingParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import RegimeModel

ROWS, STOP, CONTEXT = 3_000, 2_800, 8
MOVE, WILD, VOLUME = 0, 1, 2
COLUMNS = [
    FeatureColumn(name="move", indicator="log_return", bars=1),
    FeatureColumn(name="wild", indicator="volatility", bars=8),
    FeatureColumn(name="volume", indicator="volume_surprise", bars=48),
]
NETWORK = NetworkParameters(encoder="mlp", width=8, hidden=8, quantiles=1)
TRAINING = TrainingParameters(windows=64, minibatches=1, episode_bars=16, device="cpu")
KEY, CPU = MemberKey(0, 0, 0), torch.device("cpu")


def training_set_of(follows: str, seed: int = 1) -> TrainingSet:
    """One asset whose next return follows its ``volume``, or the ``size`` of the last return, or the ``move``."""
    rng = np.random.default_rng(seed)
    crowd, shocks = rng.standard_normal(ROWS), rng.standard_normal(ROWS)
    returns = np.zeros(ROWS)
    for t in range(1, ROWS):
        before = returns[t - 1] / 0.01
        signal = {"volume": crowd[t - 1], "size": abs(before) - 0.8, "move": before}[follows]
        returns[t] = 0.01 * (0.3 * signal + shocks[t])
    close = 100.0 * np.exp(np.cumsum(returns))[:, None]
    opened = np.concatenate([close[:1], close[:-1]])
    timestamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(ROWS) * np.timedelta64(30, "m")
    volume = 1e4 * np.exp(0.3 * crowd)[:, None]
    bars = AlignedBars(
        timestamps, ("A",), opened, np.maximum(opened, close), np.minimum(opened, close), close, volume
    )  # fmt: skip
    model = RegimeModel(np.zeros(1), np.array([0.01]), np.ones((1, 1)), np.ones(1), memory=4)
    fold = Fold(0, (Segment(60, STOP),), (Segment(2_820, 2_900),), (Segment(2_920, 2_990),))
    return TrainingSet(fold, bars, compute_features(bars, COLUMNS), COLUMNS, model, 17_520.0)


def member_of(training_set: TrainingSet, **resampling: Any) -> Member:
    training = replace(TRAINING, resampling=ResamplingParameters(**resampling))
    return new_member(training_set, KEY, AgentParameters(NETWORK, training, TradingParameters()), CPU)


def masks(encoder: Encoder) -> dict[str, list[list[float]]]:
    return {name: encoder.get_buffer(name).tolist() for name in ("feature_mask", "flipped")}


def expected_masks(follows: str, column: int, flipped: bool) -> dict[str, list[list[float]]]:
    """The masks that an agent should have where the return follows ``follows``."""
    one = [float(index == column) for index in range(len(COLUMNS))]
    shown = [[0.0] * 3, one] if follows == "size" else [one, [0.0] * 3]
    return {"feature_mask": shown, "flipped": shown if flipped else [[0.0] * 3] * 2}


def test_what_foretells_the_return_and_is_not_mirrored_turns() -> None:
    for follows, column, flipped in (("volume", VOLUME, True), ("size", MOVE, True), ("move", MOVE, False)):
        assert masks(member_of(training_set_of(follows)).network.encoder) == expected_masks(follows, column, flipped)


def test_nothing_turns_unless_asked_to() -> None:
    encoder = member_of(training_set_of("volume"), flip_invariant=False).network.encoder
    assert masks(encoder) == expected_masks("volume", VOLUME, flipped=False)
    encoder = member_of(training_set_of("size"), flip_invariant=False).network.encoder
    assert masks(encoder) == expected_masks("size", MOVE, flipped=False)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def selecting(values: list[int], sizes: list[int], flipped: list[int]) -> Encoder:
    """An encoder of three columns and no convolution."""
    encoder = build_network(NETWORK, NetworkShape(3, 1, 1, 4), torch.Generator().manual_seed(0)).encoder.double()
    mean, deviation = torch.tensor([1.0, 0.0, -2.0]), torch.tensor([2.0, 1.0, 0.5])
    encoder.set_scaler(mean, deviation, torch.tensor([0.8, 0.7, 0.9]))
    value, size, turning = (torch.tensor([column in some for column in range(3)]) for some in (values, sizes, flipped))
    one = torch.ones(1, 1, dtype=torch.bool)
    encoder.set_feature_mask(value, size, torch.stack([turning, size]), one[0], one)
    return encoder


@torch.no_grad()
def test_sizes_are_distances_from_the_mean_less_the_usual_one() -> None:
    encoder = selecting([0], [2], [])
    features = normal(2, 9, 1, 3)
    value = (features[..., 0] - 1.0) / 2.0
    size = ((features[..., 2] + 2.0) / 0.5).abs().clamp(max=SCALED_LIMIT) - 0.9
    weights = encoder.input.weight[:, 0], encoder.sizes[:, 2]
    expected = encoder.input.bias + value[..., None] * weights[0] + size[..., None] * weights[1]
    torch.testing.assert_close(encoder.before_layers(features).transpose(1, 2), expected)


@torch.no_grad()
@pytest.mark.parametrize(("values", "sizes", "flipped"), [([0, 1], [], [0]), ([1], [0, 2], []), ([0, 2], [1, 2], [2])])
def test_mirrored_bars_turn_what_turns_and_nothing_else(
    values: list[int], sizes: list[int], flipped: list[int]
) -> None:
    encoder = selecting(values, sizes, flipped)
    features = normal(2, 9, 1, 3)
    signs = torch.where(normal(2, 9) < 0.0, -1.0, 1.0)
    without = selecting([column for column in values if column not in flipped], [], [])
    only = selecting(flipped, sizes, [])  # without its bias it is what turns
    still, moving = (some.before_layers(features) - some.input.bias for some in (without, only))
    expected = encoder.input.bias + still + signs[:, None, :, None] * moving
    torch.testing.assert_close(encoder.before_layers(features, signs), expected)
    assert torch.equal(encoder.before_layers(features, torch.ones_like(signs)), encoder.before_layers(features))


def test_paths_that_are_never_mirrored_turn_nothing() -> None:
    never = {"mirror_blocks": False}, {"block_bars": None}, {"block_bars": None, "detrended": True}
    for resampling in never:
        assert masks(member_of(training_set_of("size"), **resampling).network.encoder)["flipped"] == [[0.0] * 3] * 2
        training = replace(TRAINING, resampling=ResamplingParameters(**resampling))
        training_set = training_set_of("size")
        assert (
            PathSampler(training_set, training_set.fold.train, training, CONTEXT, CPU)
            .draw(np.random.default_rng(0))
            .signs
            is None
        )


def predicted(training_set: TrainingSet, encoder: Encoder, **resampling: Any) -> float:
    """Correlation of what an encoder is shown with the next return on a synthetic path, as a member is given it."""
    training = replace(TRAINING, resampling=ResamplingParameters(**resampling))
    sampler = PathSampler(training_set, training_set.fold.train, training, CONTEXT, CPU)
    windows = sampler.draw(np.random.default_rng(0))
    with torch.no_grad():
        encoder.input.bias.zero_()
        for weight in (encoder.input.weight, encoder.sizes):
            weight.fill_(1.0)
        encoder.norm = torch.nn.Identity()  # the embedding is what is selected, plus what its silent layers add
        order = torch.randperm(training.windows, generator=torch.Generator().manual_seed(0))
        seen = windows.embedded_decisions(encoder, order)[:, order.argsort(), 0, 0, 0].T  # [W, S]
        assert torch.equal(seen, windows.embedded(encoder)[:-1, :, 0, 0, 0].T)
    facts = windows.market.facts[windows.rows[:, :-1], 0]  # [W, S]
    decisions = torch.from_numpy(np.log(facts.next_close / facts.close)).to(windows.features)
    return float(torch.corrcoef(torch.stack([seen.flatten(), decisions.flatten()]))[0, 1])


@pytest.mark.parametrize("follows", ["volume", "size", "move"])
def test_random_signs_keep_what_foretells_the_return(follows: str) -> None:
    training_set = training_set_of(follows)
    encoder = member_of(training_set).network.encoder
    real = predicted(training_set, encoder, mirror_blocks=False)
    assert 0.1 < real < 0.4
    assert predicted(training_set, encoder, mirror_blocks=True) == pytest.approx(real, abs=0.06)
    untold = member_of(training_set, flip_invariant=False).network.encoder
    forgotten = predicted(training_set, untold, mirror_blocks=True)
    assert (abs(forgotten) > 0.1) == (follows == "move")
