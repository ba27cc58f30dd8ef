"""Batched members learn the same as each alone, whatever else the stack holds."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.data.screening import Screening
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.training import trainer
from sentio_kedro.agent.training.batched import trainer as stacked
from sentio_kedro.agent.training.batched.trainer import train_members_together
from sentio_kedro.agent.training.lifecycle import MemberRun
from sentio_kedro.agent.training.member import Member, MemberKey, new_member, snapshot
from sentio_kedro.agent.training.schedules import count_updates
from sentio_kedro.agent.training.trainer import train_member
from sentio_kedro.agent.training.validation import Score
from sentio_kedro.config import (
    AgentParameters,
    CostParameters,
    DivergenceParameters,
    FeatureColumn,
    MaskParameters,
    NetworkParameters,
    OrderParameters,
    ResamplingParameters,
    StoppingParameters,
    TailParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import RegimeModel

pytestmark = pytest.mark.filterwarnings("error:There is a performance drop")  # no operation falls back to a loop
CPU, DOUBLE = torch.device("cpu"), torch.float64
COLUMNS = [FeatureColumn(name="r", indicator="log_return")]
NETWORK = NetworkParameters(width=4, heads=1, window=4, convolution=2, hidden=4, quantiles=3, dropout=0.25)
PLAIN = TrainingParameters(
    members=2, total_steps=4 * 3 * 5 * 20, windows=4, replicas=3, episode_bars=5, minibatches=2, validations=2,
    accumulation=2, learning_rate=0.03, checkpoint_updates=5, resampling=ResamplingParameters(block_bars=20),
    device="cpu",
)  # fmt: skip
EVERYTHING = replace(
    PLAIN, windows=16, total_steps=16 * 3 * 5 * 20, epochs=2, accumulation=1, weight_decay=0.01,
    tail=TailParameters(limit=0.005, pool=400),
    divergence=DivergenceParameters(coefficient=0.5, target=1e-3, max_kl=4e-3, halvings=2),
)  # fmt: skip
REALISTIC = TradingParameters(
    preset="realistic", costs=CostParameters(half_spread="estimated", impact=1.0, min_commission=1.0),
    orders=OrderParameters(
        latency_bars=1, lot_size=1.0, stop_loss=0.02, take_profit=0.03, participation=0.1, unfilled="carry"
    ),
    masks=MaskParameters(
        min_holding_bars=2, trades_per_day=5, pattern_day_trader=True, daily_loss=0.01, kelly_fraction=0.5
    ),
)  # fmt: skip
KEYS = [MemberKey(0, 0, 0), MemberKey(0, 1, 1), MemberKey(1, 0, 0)]  # another seed and member, another fold


class Memory:
    """Keeps checkpoints and what was reported, and may stop the training after a number of reports."""

    def __init__(self, reports: int | None = None) -> None:
        self.saved: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {}
        self.reported: list[tuple[MemberKey, int]] = []
        self.reports = reports

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self.saved.get(key)

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        copied = dict(state) | {"curve": [dict(row) for row in state["curve"]]}
        self.saved[key] = ({name: value.detach().clone() for name, value in tensors.items()}, copied)

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        self.reported.append((key, update))
        if len(self.reported) == self.reports:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Stop nothing."""


@cache
def training_set(number: int) -> TrainingSet:
    """Two assets whose prices go on as they went.

    Fold 1 has other bars, more of them, and pays dividends; fold 2 also knows but one regime.
    """
    bars = 260 + 30 * number
    rng, returns = np.random.default_rng(number), np.zeros((bars, 2))
    for row in range(1, bars):
        returns[row] = 0.4 * returns[row - 1] + 0.01 * rng.standard_normal(2)
    close = 100.0 * np.exp(np.cumsum(returns, axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    timestamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(bars) * np.timedelta64(30, "m")
    paid = np.where(np.arange(bars) % 10 == 9, 0.05, 0.0)[:, None] * np.ones(2) if number else None
    aligned = AlignedBars(
        timestamps, ("A", "B"), opened, np.maximum(opened, close), np.minimum(opened, close), close,
        volume=np.full((bars, 2), 1e5), dividend=paid,
    )  # fmt: skip
    count = 1 if number == 2 else 2
    volatility, stationary = np.array([0.005, 0.02])[:count], np.full(count, 1.0 / count)
    regimes = RegimeModel(np.zeros(count), volatility, np.tile(stationary, (count, 1)), stationary, memory=4)
    fold = Fold(number, (Segment(20, bars - 90),), (Segment(bars - 80, bars - 2),), ())
    return TrainingSet(fold, aligned, compute_features(aligned, COLUMNS), COLUMNS, regimes, 17520.0)


def parameters(training: TrainingParameters, network: NetworkParameters = NETWORK) -> AgentParameters:
    return AgentParameters(network, training, TradingParameters(max_drawdown=0.5))


def folds_of(how: AgentParameters, keys: list[MemberKey]) -> list[tuple[TrainingSet, MemberKey]]:
    return [(replace(training_set(key.fold), trading=how.trading), key) for key in keys]


def together(how: AgentParameters, keys: list[MemberKey] = KEYS, memory: Memory | None = None) -> list[Member]:
    memory = memory or Memory()
    return train_members_together(folds_of(how, keys), how, memory, memory, DOUBLE)


def alone(how: AgentParameters, key: MemberKey, memory: Memory | None = None) -> Member:
    memory, ((fold, _),) = memory or Memory(), folds_of(how, [key])
    return train_member(fold, key, how, memory, memory, DOUBLE)


def assert_same(one: Member, other: Member, tolerance: float = 1e-8) -> None:
    """All that a checkpoint keeps is the same: weights, moments, dual variable, pool, scores, curve."""
    (tensors, state), (others, other_state) = snapshot(one), snapshot(other)
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(value, others[name], rtol=tolerance, atol=tolerance, msg=name, check_dtype=True)
    assert state["updates_done"] == other_state["updates_done"]
    assert state["selected_update"] == other_state["selected_update"]
    assert state["best_score"] == pytest.approx(other_state["best_score"], rel=1e-6, abs=tolerance)
    for row, other_row in zip(state["curve"], other_state["curve"], strict=True):
        assert row.keys() == other_row.keys()
        for name in row.keys() - {name for name in row if "second" in name or name == "peak_gigabytes"}:
            assert row[name] == pytest.approx(other_row[name], rel=1e-6, abs=tolerance, nan_ok=True), name


@pytest.mark.parametrize("advantages", ["all_action", "sampled"])
@pytest.mark.parametrize(("training", "updates"), [(PLAIN, 5), (EVERYTHING, 20)], ids=["plain", "everything"])
def test_stacked_equals_alone(training: TrainingParameters, updates: int, advantages: str) -> None:
    steps = training.total_steps * updates // 20
    target = "distribution" if training is EVERYTHING and advantages == "sampled" else "mean"
    how = parameters(replace(training, advantages=advantages, critic_target=target, total_steps=steps))
    for key, member in zip(KEYS[1:], together(how, KEYS[1:]), strict=True):
        assert member.updates_done == count_updates(how) == updates
        assert_same(member, alone(how, key))


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], TradingParameters | None]] = {
    "standard": ({"variant": "standard"}, {"variant": "standard"}, None),
    "sampled extras": (
        {"asset_identity": True, "layers": 2},
        {"advantages": "sampled", "path_baseline": False},
        None,
    ),
    "all-action extras": (
        {"encoder": "mlp", "regime_experts": False},
        {"divergence": DivergenceParameters(coefficient=0.5)},
        None,
    ),
    "replay": ({}, {"resampling": ResamplingParameters(block_bars=None, detrended=True)}, None),
    "realistic": ({}, {"advantages": "sampled"}, REALISTIC),
    "realistic grid": ({}, {}, REALISTIC),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_can_be_stacked(name: str) -> None:
    network, training, trading = OPTIONS[name]
    sizes = {"width": 4, "heads": 1, "window": 4, "convolution": 2, "hidden": 4}
    basis = {field: getattr(PLAIN, field) for field in ("windows", "replicas", "episode_bars", "minibatches", "device")}
    steps = PLAIN.total_steps // 20
    how = AgentParameters(
        NetworkParameters(**(sizes | network)),
        TrainingParameters(**(basis | {"members": 2, "total_steps": 2 * steps, "validations": 1} | training)),
        TradingParameters() if trading is None else trading,
    )
    keys = [KEYS[0], KEYS[-1]]
    for key, member in zip(keys, together(how, keys), strict=True):
        assert_same(member, alone(how, key))


def test_members_with_different_feature_masks_can_be_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(one: TrainingSet, lags: int, _: str) -> Screening:
        """Fold 0 hears a size, which turns with mirrored bars; fold 1 a value, which is mirrored itself."""
        size = np.array([one.fold.number == 0])
        return Screening(~size, size, ~size, np.ones(lags, dtype=bool), np.ones((2, 2), dtype=bool))

    monkeypatch.setattr(TrainingSet, "screened", kept)
    how, keys = parameters(replace(PLAIN, total_steps=PLAIN.total_steps // 4)), [KEYS[0], KEYS[-1]]
    members = together(how, keys)
    assert [member.network.encoder.get_buffer("flipped").tolist() for member in members] == [
        [[0.0], [1.0]],
        [[0.0]] * 2,
    ]
    for key, member in zip(keys, members, strict=True):
        assert_same(member, alone(how, key))
    start = new_member(training_set(0), keys[0], how, CPU, DOUBLE).network.encoder.sizes
    assert not torch.equal(members[0].network.encoder.sizes, start)  # what is heard is learnt


def test_a_member_does_not_depend_on_the_others() -> None:
    how = parameters(replace(EVERYTHING, total_steps=EVERYTHING.total_steps // 5))
    whole = together(how)
    for missing in range(len(KEYS)):
        kept = [key for key in KEYS if key != KEYS[missing]]
        rest = [member for place, member in enumerate(whole) if place != missing]
        for member, other in zip(rest, together(how, kept), strict=True):
            assert_same(member, other)


def test_members_with_networks_of_another_shape_train_after_the_others() -> None:
    how = parameters(replace(PLAIN, total_steps=PLAIN.total_steps // 10))
    keys = [MemberKey(2, 0, 0), *KEYS[:1], MemberKey(2, 1, 0)]
    memory = Memory()
    members = together(how, keys, memory)
    assert [key for key, _ in memory.reported] == [keys[0], keys[2], keys[0], keys[2], keys[1], keys[1]]
    for key, member in zip(keys, members, strict=True):
        assert_same(member, alone(how, key))


def test_a_member_that_stops_early_stays_as_it_was_and_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(member_run: MemberRun) -> Score:
        """Fold 1 gets worse with every update."""
        done = float(member_run.member.updates_done)
        return Score(0.0, -done if member_run.key.fold else done, torch.zeros(10, dtype=DOUBLE))

    monkeypatch.setattr(trainer, "_score", lambda member_run, _: score(member_run))
    monkeypatch.setattr(stacked, "stacked_scores", lambda _, all_, due, __: {i: score(all_[i]) for i in due})
    how = parameters(replace(PLAIN, validations=5, stopping=StoppingParameters(patience=1)))
    memory = Memory()
    *others, stopped = together(how, memory=memory)
    assert stopped.updates_done == 8  # the second of five validations of twenty updates
    assert [member.updates_done for member in others] == [20, 20]
    assert [update for key, update in memory.reported if key == KEYS[-1]] == [1, 2, 3, 4, 5, 6, 7, 20]
    saved, _ = memory.saved[str(KEYS[-1])]
    assert all(torch.equal(saved[name], value) for name, value in snapshot(stopped)[0].items())
    assert_same(stopped, alone(how, KEYS[-1]))
    for member, other in zip(others, together(how, KEYS[:-1]), strict=True):
        assert_same(member, other)


@pytest.mark.parametrize("first", ["stacked", "alone"])
def test_a_killed_training_continues_stacked_wherever_it_was_begun(first: str) -> None:
    how = parameters(replace(EVERYTHING, total_steps=EVERYTHING.total_steps // 2, checkpoint_updates=3))
    keys = [KEYS[0], KEYS[-1]]
    memory = Memory(reports=15)  # the checkpoint before is of update 6 of 10
    with pytest.raises(KeyboardInterrupt):
        if first == "stacked":
            together(how, keys, memory)
        else:
            for key in keys:  # one is complete, the other is not
                alone(how, key, memory)
    assert {state["updates_done"] for _, state in memory.saved.values()} == ({6} if first == "stacked" else {10, 3})
    memory.reports = None
    for member, other in zip(together(how, keys), together(how, keys, memory), strict=True):
        assert_same(member, other)


def test_what_began_stacked_continues_alone() -> None:
    how = parameters(replace(EVERYTHING, total_steps=EVERYTHING.total_steps // 4, checkpoint_updates=2))
    memory = Memory(reports=6)
    with pytest.raises(KeyboardInterrupt):
        together(how, KEYS[:2], memory)
    assert {state["updates_done"] for _, state in memory.saved.values()} == {2}
    memory.reports = None
    for key in KEYS[:2]:
        assert_same(alone(how, key, memory), alone(how, key))


def test_a_loss_that_is_not_finite_names_its_member() -> None:
    with pytest.raises(FloatingPointError, match=r"fold_0-seed_0-member_0: .* not finite.*training.learning_rate"):
        together(parameters(replace(PLAIN, learning_rate=1e200)))


def test_compiled_losses_of_a_stack_equal_eager_ones_while_rates_and_coefficients_change(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    traced = partial(torch.compile, backend="aot_eager")  # all of compilation but the code for the machine, in seconds
    monkeypatch.setattr(torch, "compile", traced)
    divergence = DivergenceParameters(coefficient=0.5, target=1e-3)
    eager = parameters(replace(PLAIN, total_steps=PLAIN.total_steps // 5, divergence=divergence))
    compiled = replace(eager, training=replace(eager.training, compile="always"))
    for member, other in zip(together(compiled, KEYS[1:]), together(eager, KEYS[1:]), strict=True):
        assert_same(member, other)
    assert "could not be compiled" not in caplog.text


def test_where_nothing_compiles_a_stack_is_eager_to_the_bit_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    eager = parameters(replace(PLAIN, total_steps=PLAIN.total_steps // 10))
    compiled = replace(eager, training=replace(eager.training, compile="always"))
    for member, other in zip(together(compiled, KEYS[1:]), together(eager, KEYS[1:]), strict=True):
        assert_same(member, other, 0.0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "The loss could not be compiled and runs eagerly: no compiler found"
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
@pytest.mark.parametrize("advantages", ["all_action", "sampled"])
def test_stacked_equals_alone_on_a_gpu(advantages: str) -> None:
    critic_target = "distribution" if advantages == "sampled" else "mean"
    how = parameters(replace(EVERYTHING, advantages=advantages, critic_target=critic_target, device="cuda"))
    for key, member in zip(KEYS, together(how), strict=True):
        assert_same(member, alone(how, key))
