"""Members hear only the columns and lags that the screening keeps, from the first weights to the saved bundle."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.data import training_set as training_sets
from sentio_kedro.agent.data.screening import Screening, screen
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.network.feature_mask import selected_features
from sentio_kedro.agent.network.network import PolicyNetwork, build_network
from sentio_kedro.agent.training.member import Member, MemberKey, new_member
from sentio_kedro.agent.training.population import train_agent
from sentio_kedro.config import (
    AgentParameters,
    FeatureColumn,
    NetworkParameters,
    ResamplingParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.market.regimes import RegimeModel
from sentio_kedro.trading.policies import ACCOUNT_FEATURES

ROWS, COLUMNS, SELECTED, STOP = 600, 5, 3, 400
NETWORK = NetworkParameters(width=8, layers=1, heads=2, window=4, convolution=4, hidden=8, quantiles=3)
TRAINING = TrainingParameters(
    members=2, total_steps=160, windows=4, replicas=2, episode_bars=10, minibatches=2, validations=1, device="cpu",
    workers=1, screening="bic", resampling=ResamplingParameters(block_bars=None, mirror_blocks=False),
)  # fmt: skip
KEY = MemberKey(0, 0, 0)
SPANS = Spans(input=8, reward=1, episode=10)
LAGS = [True, True, False, False]  # the signal is one bar old
DOUBLE = torch.float64


class Nowhere:
    """A checkpoint store that keeps nothing, and a listener that does not listen."""

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        return None

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        return None

    def stop(self) -> None:
        return None


def make_training_set(signal: float = 0.01, seed: int = 7) -> TrainingSet:
    """Two assets whose returns follow column ``SELECTED`` of the bar before the last."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((ROWS, 2, COLUMNS))
    returns = 0.01 * rng.standard_normal((ROWS, 2))
    returns[2:] += signal * features[:-2, :, SELECTED]
    close = 100.0 * np.exp(np.cumsum(returns, axis=0))
    opened = np.concatenate([np.full((1, 2), 100.0), close[:-1]])
    timestamps = np.datetime64("2020-01-01T00:00", "ns") + np.arange(ROWS) * np.timedelta64(24, "h")
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    bars = AlignedBars(timestamps, ("A", "B"), opened, top, bottom, close, np.full((ROWS, 2), 1e6))
    model = RegimeModel(np.zeros(1), np.array([0.01]), np.ones((1, 1)), np.ones(1), memory=4)
    fold = Fold(0, (Segment(10, STOP),), (Segment(420, 500),), (Segment(520, 599),))
    columns = [FeatureColumn(name=f"column_{index}", indicator="log_return") for index in range(COLUMNS)]
    return TrainingSet(fold, bars, features, columns, model, 365.0)


def parameters(**training: Any) -> AgentParameters:
    return AgentParameters(NETWORK, replace(TRAINING, **training), TradingParameters())


def member_of(training_set: TrainingSet, **training: Any) -> Member:
    return new_member(training_set, KEY, parameters(**training), torch.device("cpu"))


def decide(network: PolicyNetwork, features: Tensor) -> Tensor:
    """Logits ``[B, T, A, actions]`` of accounts of which nothing is known."""
    bars = features.shape[1]
    posterior = torch.ones(1, bars, 1, dtype=features.dtype)
    projected = network.head.project(network.encoder(features, bars), posterior)
    account = torch.zeros(*projected.shape[:-1], ACCOUNT_FEATURES, dtype=features.dtype)
    return network.head.logits(network.head.hidden(projected, account), posterior)


def wild(features: Tensor, columns: list[int]) -> Tensor:
    """The features with other values in ``columns``."""
    changed = features.clone()
    changed[..., columns] = 1e6 * torch.randn(changed[..., columns].shape, dtype=features.dtype)
    return changed


def loud(network: PolicyNetwork) -> PolicyNetwork:
    """Give branches that begin with nothing something to say, so that whatever is selected changes decisions."""
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=draws, dtype=weight.dtype))
    return network


UNSELECTED = [column for column in range(COLUMNS) if column != SELECTED]


def test_the_screening_of_a_fold_keeps_the_planted_column_and_its_lags() -> None:
    kept = make_training_set().screened(4, "bic")
    assert np.flatnonzero(kept.columns).tolist() == [SELECTED]
    assert kept.lags.tolist() == LAGS


def test_rows_after_the_train_rows_change_nothing_that_is_heard() -> None:
    training_set = make_training_set()
    kept = training_set.screened(4, "bic")
    later = np.where(np.arange(ROWS) > STOP, 10.0, 1.0)[:, None]
    prices = {name: getattr(training_set.bars, name) * later for name in ("open", "high", "low", "close", "volume")}
    features = training_set.features.copy()
    features[STOP:] *= 10.0
    other = replace(training_set, bars=replace(training_set.bars, **prices), features=features).screened(4, "bic")
    assert [part.tobytes() for part in other] == [part.tobytes() for part in kept]
    assert kept.columns[SELECTED]
    last = replace(
        training_set.bars, close=np.where(np.arange(ROWS)[:, None] >= STOP, 1e30, 1.0) * training_set.bars.close
    )
    moved = replace(training_set, bars=last).screened(4, "bic")  # the last decision's return is known
    assert not moved.columns[SELECTED]


def test_a_split_is_no_return() -> None:
    training_set = make_training_set()
    bars, before = training_set.bars, np.where(np.arange(ROWS) < 200, 10.0, 1.0)[:, None]
    prices = {name: getattr(bars, name) * before for name in ("open", "high", "low", "close")}
    split = np.where(np.arange(ROWS) == 200, 10.0, 1.0)[:, None] * np.ones((1, 2))
    traded = replace(training_set, bars=replace(bars, **prices, split=split, dividend=np.zeros((ROWS, 2))))
    ours, theirs = traded.screened(4, "bic"), training_set.screened(4, "bic")
    np.testing.assert_array_equal(ours.columns, theirs.columns)
    np.testing.assert_array_equal(ours.lags, theirs.lags)


def test_the_screening_sees_the_fold_as_the_member_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RegimeModel(
        np.zeros(2), np.array([0.005, 0.03]), np.array([[0.95, 0.05], [0.05, 0.95]]), np.full(2, 0.5), memory=16
    )
    training_set = replace(make_training_set(), regimes=model)
    seen: list[Any] = []

    def listen(*given: Any) -> Screening:
        seen.extend(given)
        return screen(*given)

    monkeypatch.setattr(training_sets, "screen", listen)
    training_set.screened(4, "ebic")
    features, returns, posterior, train, lags, criterion = seen
    market = training_set.market
    assert market.returns is not None
    np.testing.assert_array_equal(features, training_set.features)
    assert np.isnan(returns[0]).all()
    np.testing.assert_allclose(returns[1:], market.returns.numpy()[1:], atol=1e-12)
    np.testing.assert_array_equal(posterior, market.posterior.numpy())
    assert (train, lags, criterion) == (training_set.fold.train, 4, "ebic")


def test_columns_that_are_not_heard_change_no_decision() -> None:
    network = loud(member_of(make_training_set()).network)
    features = torch.randn(2, 12, 2, COLUMNS)
    logits = decide(network, features)
    assert logits.std() > 0.1
    assert torch.equal(decide(network, wild(features, UNSELECTED)), logits)
    assert not torch.equal(decide(network, wild(features, [SELECTED])), logits)


def test_lags_that_are_not_heard_reach_no_bar_through_the_convolution() -> None:
    encoder = loud(member_of(make_training_set()).network).encoder
    features = torch.randn(1, 12, 2, COLUMNS)
    before = encoder.before_layers(features)
    other = features.clone()
    other[:, 5, :, SELECTED] += 1.0
    changed = (encoder.before_layers(other) != before).any(-1)[0]  # [A, T]
    for asset in changed:
        assert torch.nonzero(asset)[:, 0].tolist() == [5, 6]


def test_weights_of_what_is_not_heard_get_no_gradient() -> None:
    network = loud(member_of(make_training_set()).network)
    decide(network, torch.randn(2, 12, 2, COLUMNS)).square().sum().backward()
    columns, taps = network.encoder.input.weight.grad, network.encoder.taps
    assert columns is not None
    assert taps is not None
    assert taps.grad is not None
    assert (columns[:, UNSELECTED] == 0.0).all()
    assert (columns[:, SELECTED] != 0.0).all()
    assert (taps.grad[2:] == 0.0).all()
    assert (taps.grad[:2] != 0.0).all()


def test_without_screening_all_is_heard() -> None:
    training_set = make_training_set()
    encoder = loud(member_of(training_set, screening=None).network).encoder
    mean, deviation, _ = training_set.scaler()
    torch.testing.assert_close(encoder.get_buffer("mean"), torch.from_numpy(mean).float())
    torch.testing.assert_close(encoder.get_buffer("deviation"), torch.from_numpy(deviation).float())
    assert (encoder.get_buffer("lag_mask") == 1.0).all()
    features = torch.randn(1, 12, 2, COLUMNS)
    before = encoder.before_layers(features)
    for column in range(COLUMNS):
        other = features.clone()
        other[:, 5, :, column] += 1.0
        changed = (encoder.before_layers(other) != before).any(-1)[0, 0]
        assert torch.nonzero(changed)[:, 0].tolist() == [5, 6, 7, 8]


def test_what_is_heard_is_scaled_as_before() -> None:
    training_set = make_training_set()
    ours, theirs = (member_of(training_set, screening=how).network.encoder for how in ("bic", None))
    assert torch.equal(ours.get_buffer("mean"), theirs.get_buffer("mean"))
    assert torch.equal(ours.get_buffer("deviation"), theirs.get_buffer("deviation"))
    assert ours.get_buffer("feature_mask")[0].tolist() == [float(column == SELECTED) for column in range(COLUMNS)]
    assert ours.get_buffer("lag_mask")[:, 0].tolist() == [float(lag) for lag in LAGS]
    assert torch.equal(ours.input.weight, theirs.input.weight)  # the weights are drawn alike


def test_the_mlp_hears_the_present_bar_alone() -> None:
    plain = replace(NETWORK, encoder="mlp")
    encoder = new_member(
        make_training_set(), KEY, AgentParameters(plain, TRAINING, TradingParameters()), torch.device("cpu")
    ).network.encoder
    assert encoder.lags == 1
    assert encoder.get_buffer("lag_mask").tolist() == [[1.0]]
    shape = member_of(make_training_set()).network
    assert shape.encoder.lags == NETWORK.convolution


def test_who_hears_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sentio_kedro.agent.data.training_set")
    member_of(make_training_set())
    (told,) = caplog.records
    assert told.levelno == logging.INFO
    assert told.getMessage() == "Fold 0: screening keeps 1 of 5 feature columns (column_3) at lags up to 1"
    caplog.clear()
    network = loud(member_of(make_training_set(signal=0.0)).network)
    (told,) = caplog.records
    assert told.levelno == logging.WARNING
    assert told.getMessage() == "Fold 0: screening keeps 0 of 5 feature columns (none) at lags up to 0"
    features = torch.randn(1, 6, 2, COLUMNS)
    assert torch.equal(decide(network, features), decide(network, wild(features, list(range(COLUMNS)))))
    caplog.clear()
    member_of(make_training_set(), screening=None)
    assert not caplog.records


def test_a_trained_agent_hears_the_same_after_it_was_saved_and_loaded(tmp_path: Path) -> None:
    training_set, nowhere = make_training_set(), Nowhere()
    bundle, _, _ = train_agent(training_set, 0, SPANS, parameters(), nowhere, nowhere, {})
    bundle.save(tmp_path)
    features = torch.randn(1, 12, 2, COLUMNS, dtype=DOUBLE)
    start = build_network(NETWORK, bundle.shape(), torch.Generator().manual_seed(0))
    assert len(bundle.weights) == 2
    for ours, theirs in zip(bundle.networks(DOUBLE), AgentBundle.load(tmp_path).networks(DOUBLE), strict=True):
        encoder = theirs.encoder
        assert encoder.get_buffer("feature_mask")[0].tolist() == [
            float(column == SELECTED) for column in range(COLUMNS)
        ]
        assert encoder.get_buffer("lag_mask")[:, 0].tolist() == [float(lag) for lag in LAGS]
        assert not torch.equal(encoder.input.weight[:, SELECTED].float(), start.encoder.input.weight[:, SELECTED])
        logits = decide(theirs, features)
        assert torch.isfinite(logits).all()
        assert torch.equal(logits, decide(ours, features))
        assert torch.equal(logits, decide(theirs, wild(features, UNSELECTED)))
        assert not torch.equal(logits, decide(theirs, wild(features, [SELECTED])))


def test_the_weights_tell_what_is_heard() -> None:
    names = [f"column_{column}" for column in range(COLUMNS)]
    told = selected_features(member_of(make_training_set()).network.state_dict(), names)
    assert told == {"selected_features": "column_3", "selected_columns": 1, "feature_columns": 5, "selected_lags": 2}
    whole = selected_features(member_of(make_training_set(), screening=None).network.state_dict(), names)
    assert (whole["selected_features"], whole["selected_lags"]) == (", ".join(names), 4)
