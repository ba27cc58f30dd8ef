"""Training: resumable to the bit, blind to what comes after, selected on validation rows alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import Mock, create_autospec

import numpy as np
import pytest
import torch
from torch import Tensor

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.data import training_set as training_sets
from sentio_kedro.agent.data.training_set import TrainingSet, visible_bars
from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training import trainer
from sentio_kedro.agent.training.member import MemberKey, choose_device, new_member
from sentio_kedro.agent.training.population import count_workers, train_agent, train_population
from sentio_kedro.agent.training.schedules import count_updates
from sentio_kedro.agent.training.trainer import train_member
from sentio_kedro.config import (
    AgentParameters,
    CrossValidationParameters,
    DivergenceParameters,
    FeatureColumn,
    IngestionParameters,
    NetworkParameters,
    RegimeParameters,
    StoppingParameters,
    TailParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.folds import make_folds
from sentio_kedro.market.indicators import compute_features, longest_lookback
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Fold, Spans
from sentio_kedro.market.regimes import RegimeModel, fit_regimes, market_return
from sentio_kedro.market.tensors import market_tensors

COLUMNS = [FeatureColumn(name="r", indicator="log_return"), FeatureColumn(name="v", indicator="volatility", bars=8)]
NETWORK = NetworkParameters(width=4, heads=1, window=4, convolution=2, hidden=4, quantiles=3)
TRAINING = TrainingParameters(
    seeds=2, members=2, total_steps=480, windows=4, replicas=2, episode_bars=10, minibatches=2, validations=2,
    checkpoint_updates=2, block_bars=20, device="cpu", workers=1,
)  # fmt: skip
PARAMETERS = AgentParameters(NETWORK, TRAINING, TradingParameters())
REGIMES = RegimeParameters(states=2, memory=16, restarts=1, iterations=5)
SPANS = Spans(input=receptive_field(NETWORK) + 97, reward=1, episode=10)
BARS = 700


class Memory:
    """A checkpoint store in memory that also counts its saves."""

    def __init__(self) -> None:
        self.saved: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {}

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self.saved.get(key)

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        copied = dict(state) | {"curve": [dict(row) for row in state["curve"]]}
        self.saved[key] = ({name: value.clone() for name, value in tensors.items()}, copied)


class Killer:
    """Raises after a number of updates."""

    def __init__(self, after: int) -> None:
        self.left = after

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def stop(self) -> None:
        self.left = 0


PATIENT = 10**9


def make_training_set(scale_after: int | None = None, number: int = 0, strength: float = 0.3) -> TrainingSet:
    """One fold of a planted market; rows after ``scale_after`` are multiplied by 10."""
    bars = align_bars(planted_bars(autoregressive_returns(BARS, strength, 0.01, seed=1)), IngestionParameters())
    if scale_after is not None:
        factor = np.where(np.arange(BARS) > scale_after, 10.0, 1.0)[:, None]
        bars = replace(
            bars, **{name: getattr(bars, name) * factor for name in ("open", "high", "low", "close", "volume")}
        )
    fold = make_folds(BARS, SPANS, CrossValidationParameters(folds=1, first_test=0.7, lockbox=None))[0]
    return training_set_of(bars, replace(fold, number=number))


def training_set_of(bars: AlignedBars, fold: Fold) -> TrainingSet:
    features = compute_features(bars, COLUMNS)
    returns = market_return(bars)
    model = fit_regimes([returns[part.start : part.stop] for part in fold.train], REGIMES, seed=0)
    seen, known = visible_bars(bars, features, fold, SPANS)
    return TrainingSet(fold, seen, known, COLUMNS, model, 365.0)


def train(
    training_set: TrainingSet, parameters: AgentParameters = PARAMETERS, store: Memory | None = None
) -> AgentBundle:
    return train_agent(training_set, 0, SPANS, parameters, store or Memory(), Killer(PATIENT), {})[0]


def equal_weights(first: AgentBundle, second: AgentBundle) -> bool:
    return all(torch.equal(a[name], b[name]) for a, b in zip(first.weights, second.weights, strict=True) for name in a)


def test_the_longest_lookback_fits_the_spans_of_these_tests() -> None:
    assert longest_lookback(COLUMNS) <= 97


@pytest.mark.parametrize("advantages", ["all_action", "sampled"])
def test_a_killed_training_continues_to_the_same_bits(advantages: str) -> None:
    parameters = replace(PARAMETERS, training=replace(TRAINING, advantages=advantages))
    training_set = make_training_set()
    whole = train(training_set, parameters)
    for kill_after in (3, count_updates(parameters) + 1):
        store = Memory()
        with pytest.raises(KeyboardInterrupt):
            train_agent(training_set, 0, SPANS, parameters, store, Killer(kill_after), {})
        assert equal_weights(whole, train(training_set, parameters, store))


def test_rows_after_the_validation_rows_change_no_byte_of_an_agent() -> None:
    training_set = make_training_set()
    end = training_set.fold.validation[-1].stop - 1 + SPANS.reward
    assert equal_weights(train(training_set), train(make_training_set(scale_after=end)))


def test_rows_after_the_train_rows_change_no_byte_of_what_is_fitted() -> None:
    training_set = make_training_set(strength=0.6)
    changed = make_training_set(scale_after=training_set.fold.train[-1].stop - 1 + SPANS.reward, strength=0.6)
    assert changed.bars.close[-1] != training_set.bars.close[-1]
    assert all(np.array_equal(a, b) for a, b in zip(training_set.scaler(), changed.scaler(), strict=True))
    assert training_set.regimes.to_dict() == changed.regimes.to_dict()
    last = []
    for one in (training_set, changed):
        last.append(train_member(one, MemberKey(0, 0, 0), PARAMETERS, Memory(), Killer(PATIENT)))
    states = [member.network.state_dict() for member in last]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_is_never_given_test_rows() -> None:
    training_set = make_training_set()
    assert len(training_set.bars.timestamps) == training_set.fold.validation[-1].stop + SPANS.reward
    assert len(training_set.bars.timestamps) <= training_set.fold.test[0].start + 1
    assert training_set.features.shape[0] == len(training_set.bars.timestamps)


def test_test_blocks_between_train_rows_are_blanked() -> None:
    bars = align_bars(planted_bars(autoregressive_returns(1500, 0.1, 0.01, seed=1)), IngestionParameters())
    split = CrossValidationParameters(scheme="combinatorial", groups=5, test_groups=1, lockbox=None)
    fold = next(fold for fold in make_folds(1500, SPANS, split) if len(fold.train) > 1)
    seen, known = visible_bars(bars, compute_features(bars, COLUMNS), fold, SPANS)
    for part in fold.test:
        inside = slice(part.start + SPANS.reward, part.stop)
        assert not seen.present[inside].any()
        assert np.isnan(known[inside]).all()
    for part in (*fold.train, *fold.validation):
        assert np.array_equal(seen.close[part.start : part.stop], bars.close[part.start : part.stop])


def returns_of_sharpe(sharpe: float) -> Tensor:
    """Returns per bar whose annualised Sharpe ratio is as told; they differ in their mean alone."""
    swings = torch.randn(63, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return 0.01 * ((swings - swings.mean()) / swings.std() + sharpe / 365.0**0.5)


@pytest.mark.parametrize(("validation", "chosen"), [((1.0, 2.0), 1), ((2.0, 1.0), 0)])
def test_the_checkpoint_with_the_best_validation_score_is_kept(
    monkeypatch: pytest.MonkeyPatch, validation: tuple[float, float], chosen: int
) -> None:
    weights: list[dict[str, Tensor]] = []

    def validated(networks: list[PolicyNetwork], *_: object) -> list[Tensor]:
        weights.append({name: value.clone() for name, value in networks[0].state_dict().items()})
        train = 10.0 * validation[1 - (len(weights) - 1)]  # train says the contrary
        return [returns_of_sharpe(train), returns_of_sharpe(validation[len(weights) - 1])]

    monkeypatch.setattr(trainer, "validate_parts", validated)
    training_set = make_training_set()
    parameters = replace(PARAMETERS, training=replace(TRAINING, selection_margin=0.0))
    member = train_member(training_set, MemberKey(0, 0, 0), parameters, Memory(), Killer(PATIENT))
    assert member.best_score == pytest.approx(2.0)
    assert torch.equal(member.best_returns, returns_of_sharpe(2.0))
    assert member.selected_update == 2 * (1 + chosen)
    assert len(weights) == TRAINING.validations
    assert all(torch.equal(member.selected_weights[name], weights[chosen][name]) for name in member.selected_weights)
    assert not all(
        torch.equal(member.selected_weights[name], weights[1 - chosen][name]) for name in member.selected_weights
    )


def worse_and_worse(fall: float) -> Callable[..., list[Tensor]]:
    """Returns on validation rows that fall by a share of their deviation with every validation."""
    calls: list[int] = []

    def validated(*_: object) -> list[Tensor]:
        calls.append(len(calls))
        swings = torch.randn(63, dtype=torch.float64, generator=torch.Generator().manual_seed(len(calls)))
        return [swings, swings - fall * len(calls)]

    return validated


@pytest.mark.parametrize(("fall", "kept"), [(0.0, 4), (3.0, 2)], ids=["luck", "lead"])
def test_a_killed_training_remembers_what_led(monkeypatch: pytest.MonkeyPatch, fall: float, kept: int) -> None:
    """Killed between the two validations, after updates 2 and 4, it chooses as if it had not been."""
    training_set, saved = make_training_set(), []
    parameters = replace(PARAMETERS, training=replace(TRAINING, selection_margin=2.0))
    for killed in (False, True):
        monkeypatch.setattr(trainer, "validate_parts", worse_and_worse(fall))
        store = Memory()
        if killed:
            with pytest.raises(KeyboardInterrupt):
                train_member(training_set, MemberKey(0, 0, 0), parameters, store, Killer(2))
            assert store.saved[str(MemberKey(0, 0, 0))][1]["selected_update"] == 2
        member = train_member(training_set, MemberKey(0, 0, 0), parameters, store, Killer(PATIENT))
        assert (member.updates_done, member.selected_update) == (4, kept)
        saved.append(store.saved[str(MemberKey(0, 0, 0))])
    (first, first_state), (second, second_state) = saved
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["learner.best_returns"].std() > 0.0
    for name in ("updates_done", "selected_update", "best_score"):
        assert first_state[name] == second_state[name]


def test_the_curve_marks_the_update_whose_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def selected(fall: float) -> list[float]:
        monkeypatch.setattr(trainer, "validate_parts", worse_and_worse(fall))
        training = replace(TRAINING, members=1, selection_margin=2.0)
        parameters, training_set = replace(PARAMETERS, training=training), make_training_set()
        _, curve, _ = train_agent(training_set, 0, SPANS, parameters, Memory(), Killer(PATIENT), {})
        return [row["update"] for row in curve if row["selected"]]

    assert selected(0.0) == [4.0]
    assert selected(3.0) == [2.0]


def test_agents_do_not_depend_on_how_many_train_at_once() -> None:
    training_sets = [make_training_set(), make_training_set(number=1)]
    together = replace(PARAMETERS, training=replace(TRAINING, workers=3))
    one_by_one, at_once = (
        list(train_population(training_sets, SPANS, parameters, Memory(), Killer(PATIENT), {}))
        for parameters in (PARAMETERS, together)
    )
    assert [agent.name for agent, _, _ in at_once] == [
        "fold_0/seed_0",
        "fold_0/seed_1",
        "fold_1/seed_0",
        "fold_1/seed_1",
    ]
    assert all(equal_weights(a[0], b[0]) for a, b in zip(one_by_one, at_once, strict=True))
    assert not equal_weights(at_once[0][0], at_once[1][0])  # seeds differ
    assert not equal_weights(at_once[0][0], at_once[2][0])  # so do folds, of the same rows


def test_the_market_and_the_regimes_of_a_fold_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folds, markets = [make_training_set(), make_training_set(number=1)], Mock(wraps=market_tensors)
    filtered = create_autospec(RegimeModel.filter, side_effect=RegimeModel.filter)
    monkeypatch.setattr(training_sets, "market_tensors", markets)
    monkeypatch.setattr(RegimeModel, "filter", filtered)
    replay = replace(TRAINING, block_bars=None, workers=4)
    agents = train_population(folds, SPANS, replace(PARAMETERS, training=replay), Memory(), Killer(PATIENT), {})
    assert len(list(agents)) == 4  # two seeds of two members in each fold
    assert markets.call_count == filtered.call_count == 2


def test_a_fold_whose_rule_holds_nothing_is_not_trained() -> None:
    training_set, store = make_training_set(), Memory()
    closed = replace(training_set, rule=ForecastRule((), (), np.zeros(0), ""))
    member = train_member(closed, MemberKey(0, 0, 0), PARAMETERS, store, Killer(0))
    untrained = new_member(training_set, MemberKey(0, 0, 0), PARAMETERS, torch.device("cpu")).network.state_dict()
    assert (member.updates_done, member.curve, store.saved) == (0, [], {})
    assert all(torch.equal(member.selected_weights[name], untrained[name]) for name in untrained)
    opened = replace(closed.rule, sleeves=(Mock(weight=0.0), Mock(weight=0.2)))
    assert [replace(training_set, rule=rule).flat for rule in (None, closed.rule, opened)] == [False, True, False]


def test_a_failure_stops_the_other_agents() -> None:
    together = replace(PARAMETERS, training=replace(TRAINING, workers=2))
    progress = Killer(2)
    with pytest.raises(KeyboardInterrupt):
        list(train_population([make_training_set()], SPANS, together, Memory(), progress, {}))
    assert progress.left <= 0


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint() -> None:
    wild = replace(PARAMETERS, training=replace(TRAINING, learning_rate=1e12))
    with pytest.raises(FloatingPointError, match=r"are not finite.*training.learning_rate"):
        train(make_training_set(), wild)


def test_returns_that_are_no_numbers_stop_training(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = torch.full((63,), float("nan"), dtype=torch.float64)
    monkeypatch.setattr(trainer, "validate_parts", lambda *_: [returns_of_sharpe(0.0), broken])
    with pytest.raises(FloatingPointError, match=r"after update 2 is not a number"):
        train(make_training_set())


def test_a_converged_training_stops_and_stays_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "validate_parts", lambda *_: [returns_of_sharpe(0.0), returns_of_sharpe(1.0)])
    training_set, store = make_training_set(), Memory()
    training = replace(TRAINING, stopping=StoppingParameters(patience=1), validations=4, total_steps=960)
    parameters = replace(PARAMETERS, training=training)
    for _ in range(2):  # the second call continues from the checkpoint
        member = train_member(training_set, MemberKey(0, 0, 0), parameters, store, Killer(PATIENT))
        assert member.updates_done == count_updates(parameters) // 2  # validations 1 and 2 of 4


@pytest.mark.parametrize(("advantages", "target"), [("all_action", "mean"), ("sampled", "distribution")])
def test_everything_at_once_continues_to_the_same_bits(advantages: str, target: str) -> None:
    training = replace(
        TRAINING, advantages=advantages, critic_target=target, replicas=3, weight_decay=0.01,
        tail=TailParameters(limit=0.001 if advantages == "all_action" else None),
        divergence=DivergenceParameters(coefficient=0.5, max_kl=0.5, halvings=2), members=1, total_steps=8_160,
        windows=16, minibatches=2, accumulation=2, validations=2,
    )  # fmt: skip
    parameters, training_set = replace(PARAMETERS, training=training), make_training_set(strength=0.6)
    stores = Memory(), Memory()
    whole = train(training_set, parameters, stores[0])
    with pytest.raises(KeyboardInterrupt):
        train_agent(training_set, 0, SPANS, parameters, stores[1], Killer(14), {})
    tensors, state = stores[1].saved[str(MemberKey(0, 0, 0))]
    assert state["updates_done"] == 14
    assert (tensors["learner.price"] > 0.0) == (advantages == "all_action")
    assert equal_weights(whole, train(training_set, parameters, stores[1]))
    first, second = (store.saved[str(MemberKey(0, 0, 0))] for store in stores)
    assert first[1]["updates_done"] == second[1]["updates_done"] == 17
    assert first[1]["selected_update"] == second[1]["selected_update"]
    assert first[0].keys() == second[0].keys()
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])


def test_workers_are_bounded_by_agents() -> None:
    assert count_workers(replace(TRAINING, workers=8), 3) == 3
    assert count_workers(replace(TRAINING, workers=None), 1) == 1


def test_a_missing_gpu_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"`training.device` is cuda"):
            choose_device("cuda")
    assert choose_device("cpu").type == "cpu"
