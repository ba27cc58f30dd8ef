"""Supervised signals: what they foretell, what they may read, and that they find what is there and nothing else."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from planted.paths import autoregressive_returns, planted_bars
from planted.scores import expected_profit
from sentio_kedro.config import CostParameters, FeatureColumn, IngestionParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines.by_fold import fitted_signals, validated_signals
from sentio_kedro.evaluation.backtest.baselines.signal_rule import signal_schedule
from sentio_kedro.evaluation.backtest.baselines.supervised import (
    LEARNERS,
    PENALTIES,
    Examples,
    Sample,
    boosted_trees,
    decision_returns,
    fold_forecasts,
    ridge,
)
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.tensors import MarketTensors, market_tensors

BARS = 5_000
COLUMNS = [FeatureColumn(name="r1", indicator="log_return"), FeatureColumn(name="r3", indicator="log_return", bars=3)]
TRADING = TradingParameters(costs=CostParameters(commission_bps=1, half_spread_bps=1))
FOLD = Fold(0, (Segment(10, 2_000), Segment(2_050, 2_400)), (Segment(2_400, 3_100),), (Segment(3_101, BARS - 1),))


def make_bars(phi: float, seed: int, bars: int = BARS) -> AlignedBars:
    frames = [planted_bars(autoregressive_returns(bars, phi, 0.004, 10 * seed + n), f"S{n}") for n in range(2)]
    return align_bars(pd.concat(frames), IngestionParameters())


class Calm(BacktestContext):
    """A scene with one regime and no agents."""

    def posteriors(self, fold: int) -> list[torch.Tensor]:
        return [self.market.posterior]


def context_of(bars: AlignedBars) -> Calm:
    return Calm.of(bars, compute_features(bars, COLUMNS), {}, TRADING)


def examples_of(market: MarketTensors) -> Examples:
    return Examples.of(market, market.posterior, 0)


@pytest.fixture(scope="module", name="planted")
def planted_fixture() -> Calm:
    return context_of(make_bars(0.2, seed=1))


def test_a_decision_earns_from_its_fill_to_the_next_open() -> None:
    bars = make_bars(0.2, seed=0, bars=40)
    rng = np.random.default_rng(0)
    opened = bars.close * np.exp(rng.normal(0.0, 0.01, bars.close.shape))
    gapped = replace(bars, open=opened, high=bars.high * 1.1, low=bars.low * 0.9)
    market = market_tensors(gapped, np.zeros((40, 2, 1)), np.ones((40, 1)), TRADING)
    for latency in (0, 2):
        earned, filled = decision_returns(market, latency)
        first = 1 + latency
        returns = np.log(opened[first + 1 :] / opened[first:-1])
        np.testing.assert_allclose(earned[: len(returns)], returns, atol=1e-12)
        assert filled[: len(returns)].all()
        assert not filled[len(returns) :].any()


def test_a_split_is_no_return_and_a_dividend_is_one() -> None:
    bars = make_bars(0.0, seed=0, bars=40)
    plain, _ = decision_returns(market_tensors(bars, np.zeros((40, 2, 1)), np.ones((40, 1)), TRADING), 0)
    factor = np.where(np.arange(40) < 20, 1.0, 0.5)[:, None]
    split, dividend = np.ones((40, 2)), np.zeros((40, 2))
    split[20], dividend[30, 1] = 2.0, 0.01 * 0.5 * bars.close[29, 1]
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")}
    acting = replace(bars, **prices, split=split, dividend=dividend)
    earned, _ = decision_returns(market_tensors(acting, np.zeros((40, 2, 1)), np.ones((40, 1)), TRADING), 0)
    np.testing.assert_allclose(earned[:, 0], plain[:, 0], atol=1e-12)
    assert earned[28, 1] - plain[28, 1] == pytest.approx(0.01, abs=2e-4)  # held from the open of 29 to that of 30


def test_an_order_that_no_bar_fills_is_no_example() -> None:
    bars = make_bars(0.2, seed=0, bars=40)
    hidden = np.zeros((40, 2), dtype=bool)
    hidden[20, 0] = True
    halted = bars.without(hidden)
    market = market_tensors(halted, np.zeros((40, 2, 1)), np.ones((40, 1)), TRADING)
    examples = examples_of(market)
    assert not examples.filled[19, 0]
    assert examples.filled[18, 0]
    rows = examples.sample([Segment(17, 23)])  # 17 .. 21 of two assets, less the row before the gap and the gap itself
    assert len(rows.targets) == 2 * 5 - 2


def test_the_last_row_of_a_segment_teaches_nothing_for_its_return_ends_beyond_the_reward(planted: Calm) -> None:
    examples = examples_of(planted.market)
    assert len(examples.sample([Segment(100, 110), Segment(120, 130)]).targets) == 2 * (9 + 9)
    shifted = planted.market.open.clone()
    shifted[FOLD.train[-1].stop + 1] *= 1.5  # the first open that a validation decision is filled at
    changed = examples_of(planted.market._replace(open=shifted))
    for first, second in zip(examples.sample(FOLD.train), changed.sample(FOLD.train), strict=True):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_after_the_validation_rows_change_nothing_that_is_foretold_before(name: str, planted: Calm) -> None:
    later = FOLD.test[0].start + 500
    bars = planted.bars
    factor = np.where(np.arange(BARS) > later, 1.0 + 0.5 * np.sin(np.arange(BARS)), 1.0)[:, None]
    changed = replace(bars, **{column: getattr(bars, column) * factor for column in ("open", "high", "low", "close")})
    first, second = (fitted_signals(context, FOLD, [name])[name] for context in (planted, context_of(changed)))
    assert np.array_equal(first.forecasts[: later + 1], second.forecasts[: later + 1])
    assert not np.array_equal(first.forecasts[later + 1 :], second.forecasts[later + 1 :])
    assert first.persistence == second.persistence


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_between_train_segments_and_validation_rows_are_not_fitted_on(name: str, planted: Calm) -> None:
    examples = examples_of(planted.market)
    targets = examples.targets.copy()
    targets[2_000:2_050] = 5.0
    targets[FOLD.test[0].start :] = -5.0
    first, second = (fold_forecasts(name, x, FOLD) for x in (examples, replace(examples, targets=targets)))
    assert np.array_equal(first, second)


def test_validation_rows_choose_how_much_is_restrained() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 5))
    train = Sample(inputs, inputs[:, 0] + rng.normal(size=400))
    same, opposite = Sample(inputs, inputs[:, 0]), Sample(inputs, -inputs[:, 0])
    for learner in (ridge, boosted_trees):
        bold, shy = (float(np.abs(learner(train, chosen)(inputs)).mean()) for chosen in (same, opposite))
        assert bold > 1.5 * shy
    slope = ridge(train, opposite)(np.array([[1.0, 0, 0, 0, 0]])) - ridge(train, opposite)(np.zeros((1, 5)))
    assert slope.item() == pytest.approx(1.0 / (1.0 + max(PENALTIES)), abs=0.06)  # of inputs of deviation 1


def test_the_same_rows_give_the_same_bytes(planted: Calm) -> None:
    for name in LEARNERS:
        first, second = (fold_forecasts(name, examples_of(planted.market), FOLD) for _ in range(2))
        assert first.tobytes() == second.tobytes()


def followed(targets: np.ndarray) -> np.ndarray:
    """Positions ``[S, A]`` of an account that keeps each target until the next one."""
    return pd.DataFrame(targets).ffill().to_numpy()


@pytest.mark.parametrize("name", LEARNERS)
def test_a_planted_signal_is_found_and_traded_at_a_profit(name: str, planted: Calm) -> None:
    (signals,) = validated_signals(planted, [FOLD], [name])
    test = slice(*FOLD.test[0])
    returns = np.diff(np.log(planted.bars.close), axis=0, prepend=np.nan)[test]
    means = 0.2 * returns  # of the next return, by the law
    held = followed(signal_schedule(planted, signals[name], FOLD.test[0]))
    ideal = 0.5 * np.sign(means)
    possible = max(expected_profit(ideal * (np.abs(means) > gap), means, 2e-4).sum() for gap in (0.0, 2e-4, 4e-4))
    assert expected_profit(held, means, 2e-4).sum() > 0.75 * possible


def test_noise_gives_nothing() -> None:
    gross = {name: [] for name in LEARNERS}
    for seed in range(4):
        noise = context_of(make_bars(0.0, seed=seed))
        (signals,) = validated_signals(noise, [FOLD], list(LEARNERS))
        came = decision_returns(noise.market, 0)[0][slice(*FOLD.test[0])]
        for name, signal in signals.items():
            gross[name].append((2.0 * followed(signal_schedule(noise, signal, FOLD.test[0])) * came).sum(-1))
    for name, parts in gross.items():
        profit = np.concatenate(parts)
        assert abs(profit.mean()) < 2.0 * 0.004 * 2**0.5 / len(profit) ** 0.5, name  # two deviations, always invested


def test_signals_that_lose_on_validation_rows_are_silenced(planted: Calm) -> None:
    (validated,) = validated_signals(planted, [FOLD], ["ridge"])
    assert validated["ridge"].forecasts.any()
    mirrored = planted.market.features.clone()
    mirrored[FOLD.validation[0].start :] *= -1.0  # the signal means the opposite from validation on
    reversed_context = replace(planted, market=planted.market._replace(features=mirrored))
    (silenced,) = validated_signals(reversed_context, [FOLD], ["ridge"])
    assert not silenced["ridge"].forecasts.any()


def test_a_fold_without_examples_leaves_a_signal_out(planted: Calm) -> None:
    nothing = replace(planted, market=planted.market._replace(tradable=torch.zeros_like(planted.market.tradable)))
    assert validated_signals(nothing, [FOLD], ["ridge"]) == [{}]
