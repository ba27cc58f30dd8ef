"""Sleeves: profit by hand, gates that share one level, and a fold whose positions do not know its first test row."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.stats import norm

from planted.catalogue import MARKETS
from planted.paths import path_bars
from sentio_kedro.agent.control import Control
from sentio_kedro.agent.forecasting.experts import block_t
from sentio_kedro.agent.forecasting.fold import FoldForecasts, complete_rows, forecast_fold
from sentio_kedro.agent.forecasting.forecaster import SleeveForecaster
from sentio_kedro.agent.forecasting.frames import evidence_frame, forecast_frame, units_from_frame
from sentio_kedro.agent.forecasting.market import ForecastMarket, largest_risk
from sentio_kedro.agent.forecasting.sleeves import Sleeve, fit_sleeves, forecast_t, net_profit, tried, weighted
from sentio_kedro.config import (
    CostParameters,
    ForecastingParameters,
    IngestionParameters,
    MaskParameters,
    TradingParameters,
)
from sentio_kedro.evaluation.plots.forecasts import evidence_figure
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Fold, Segment

TRADING = TradingParameters(costs=CostParameters(commission_bps=1, half_spread_bps=1))
FOLD = Fold(0, (Segment(600, 4_000),), (Segment(4_000, 4_400),), (Segment(4_400, 5_000),))


def sleeve(name: str, t: float, sharpe: float) -> Sleeve:
    nothing = SleeveForecaster((), None, (), ())  # type: ignore[arg-type]
    return Sleeve(name, nothing, Control(np.array([1]), 0.1), t, sharpe)


def test_profit_in_units_of_risk_by_hand() -> None:
    units = np.array([[1.0, 0.0], [0.5, -0.5], [0.5, -0.5]])
    targets = np.array([[2.0, 1.0], [-1.0, 1.0], [np.nan, 2.0]])
    costs = np.array([[0.1, 0.1], [0.2, 0.4], [np.inf, 0.4]])
    assert net_profit(units, targets, costs) == pytest.approx([2.0 - 0.1, -1.0 - 0.1 - 0.2, -1.0])


def test_forecasts_must_be_worth_more_than_their_costs_by_hand() -> None:
    """Positions promised 24 x 0.2 that cost a quarter of it break even at a slope of 1/4."""
    forecasts = np.tile([[0.2, 0.0]], (24, 1))
    targets = np.tile([[0.5, 9.0], [-0.2, -9.0]], (12, 1))
    units = np.ones((24, 2))
    t = forecast_t(units, forecasts, targets, 0.25 * 24 * 0.2)
    gains = 0.2 * np.tile([0.5 - 0.05, -0.2 - 0.05], 12)
    assert t == pytest.approx(gains.sum() / np.sqrt((gains**2).sum()))
    assert forecast_t(units, forecasts, targets, 0.75 * 24 * 0.2) == pytest.approx(0.0, abs=1e-12)
    assert forecast_t(-units, forecasts, targets, 1.0) == 0.0  # against the forecasts: nothing is promised


def test_strong_forecasts_count_for_more_than_positions_at_their_limit() -> None:
    rng = np.random.default_rng(0)
    forecasts = 0.1 * rng.standard_normal((4_000, 1))
    targets = forecasts + rng.standard_normal((4_000, 1))
    units = np.sign(forecasts)
    blocks = np.arange(4_000) * 60 // 4_000
    profit_t = block_t(net_profit(units, targets, np.zeros((4_000, 1))), blocks)
    assert forecast_t(units, forecasts, targets, 0.0) > 1.2 * profit_t > 4.0


def test_gates_share_one_level() -> None:
    def opened(*ts: float) -> list[bool]:
        return [part.weight > 0.0 for part in weighted([sleeve(f"S{t}", t, 1.0) for t in ts], 0.1)]

    single, half = norm.isf(0.1), norm.isf(0.05)
    assert opened(single + 0.01) == [True]
    assert opened(single - 0.01) == [False]
    assert opened(single + 0.01, 0.0) == [False, False]
    assert opened(0.0, half + 0.01) == [False, True]
    assert opened(half - 0.01, half + 0.01) == [False, True]


def test_sleeves_weigh_by_their_sharpe_ratios_and_how_far_they_pass() -> None:
    first, second = weighted([sleeve("relative", 4.0, 2.0), sleeve("directional", 2.0, 1.0)], 0.1)
    least = norm.isf(0.05)
    assert first.weight == 1.0
    assert second.weight == pytest.approx((1 - (least / 2) ** 2) / (2.0 * (1 - (least / 4) ** 2)))
    assert [part.weight for part in weighted([sleeve("relative", 3.0, -0.1)], 0.1)] == [0.0]  # it lost


def test_a_t_of_at_most_one_opens_nothing_whatever_the_level() -> None:
    for t in (-1.0, 0.0, 0.5, 1.0):
        assert [part.weight for part in weighted([sleeve("relative", t, 1.0)], 0.9)] == [0.0]


def test_rows_whose_targets_leave_their_segment_are_no_train_rows() -> None:
    assert complete_rows([Segment(0, 10), Segment(20, 23)], 4).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def bars() -> AlignedBars:
    return align_bars(path_bars(MARKETS["reversal"].law.draw(5_100, 3)), IngestionParameters())


@pytest.fixture(scope="module")
def market(bars: AlignedBars) -> ForecastMarket:
    return ForecastMarket.of(bars, TRADING, 17_520.0).with_regimes(np.ones((5_100, 1)))


@pytest.fixture(scope="module")
def found(market: ForecastMarket) -> FoldForecasts:
    return forecast_fold(market, FOLD, ForecastingParameters(sleeves=("directional",)))


def test_costs_are_in_volatilities_and_infinite_where_inputs_are_unknown(market: ForecastMarket) -> None:
    assert np.isinf(market.costs[:3]).all()
    assert market.costs[2_000] * market.inputs.volatility[2_000] == pytest.approx(2e-4)
    assert market.purge == 1 + 192


def test_a_planted_reversal_is_found_and_traded(found: FoldForecasts, market: ForecastMarket) -> None:
    (only,) = found.sleeves
    assert only.weight == 1.0
    test = slice(4_400, 5_000)
    held = found.units[test]
    assert np.abs(np.diff(held, axis=0)).sum() > 50.0
    assert net_profit(held, market.targets[test], market.costs[test]).sum() > 0.0
    assert not found.units[:4_000].any()


def test_the_gate_is_the_t_of_one_account_over_all_out_of_fold_rows(
    found: FoldForecasts, market: ForecastMarket
) -> None:
    (only,), rows = found.sleeves, found.train_rows
    costs, wanted = market.costs[rows], market.targets[rows]
    waiting = Control.of([part.bars for part in market.segments], 17_520.0)
    waiting = waiting.with_surprise(found.forecasts["directional"][rows], costs)
    assert only.control.surprise == waiting.surprise > 0.01
    held = only.control.positions(found.forecasts["directional"][rows], costs, np.zeros(1), neutral=False)
    profit, first = net_profit(held, wanted, costs), found.forecasts["directional"][rows][:, :, 0]
    assert only.sharpe == pytest.approx(profit.mean() / profit.std() * 17_520.0**0.5)
    share = -net_profit(held, np.zeros_like(wanted), costs).sum() / (held * first).sum()  # of what was promised, paid
    beyond = (first * (np.nan_to_num(wanted) - share * first)).sum(axis=1)
    sums = np.array([part.sum() for part in np.split(beyond, [-(-len(rows) * block // 60) for block in range(1, 60)])])
    assert only.gate_t == pytest.approx(sums.sum() / np.sqrt((sums**2).sum()))
    plain = beyond.mean() / beyond.std() * len(rows) ** 0.5
    assert abs(only.gate_t / plain - 1.0) > 0.01  # what a t without blocks would say


def test_the_gate_walks_one_account_not_pieces_that_start_flat(
    found: FoldForecasts, market: ForecastMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks, walk = list[int](), Sleeve.units

    def counted(self: Sleeve, forecasts: np.ndarray, costs: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        walks.append(len(forecasts))
        return walk(self, forecasts, costs, start)

    monkeypatch.setattr(Sleeve, "units", counted)
    fit_sleeves(market, complete_rows(FOLD.train, market.purge), ForecastingParameters(sleeves=("directional",)))
    assert walks == [len(found.train_rows)]


def test_risk_has_a_price_so_that_a_position_without_a_forecast_is_left(
    found: FoldForecasts, market: ForecastMarket
) -> None:
    (only,), rows = found.sleeves, slice(4_400, 4_800)
    assert only.control.price == pytest.approx(1.0 / 17_520.0**0.5)
    nothing = np.zeros((400, 1, len(market.segments)))
    patient = replace(only.control, surprise=0.0)  # no better forecast is waited for
    assert patient.positions(nothing, market.costs[rows], np.ones(1), neutral=False)[-1, 0] == 0.0
    with pytest.raises(ValidationError, match="price_of_risk"):
        ForecastingParameters(price_of_risk=0.0)


def test_the_first_test_row_and_later_bars_change_no_position(
    found: FoldForecasts, market: ForecastMarket, bars: AlignedBars
) -> None:
    parameters = ForecastingParameters(sleeves=("directional",))
    later = forecast_fold(market, replace(FOLD, test=(Segment(4_700, 5_000),)), parameters)
    np.testing.assert_array_equal(later.units[4_000:], found.units[4_000:])
    changed = bars.map_columns(lambda column: np.where(np.arange(5_100)[:, None] > 4_800, 1.3 * column, column))
    other = ForecastMarket.of(changed, TRADING, 17_520.0).with_regimes(np.ones((5_100, 1)))
    again = forecast_fold(other, FOLD, parameters)
    np.testing.assert_array_equal(again.units[:4_801], found.units[:4_801])
    assert again.sleeves[0].gate_t == found.sleeves[0].gate_t


def test_evidence_reads_no_bar_of_the_test_rows(
    found: FoldForecasts, market: ForecastMarket, bars: AlignedBars
) -> None:
    later = bars.map_columns(lambda column: np.where(np.arange(5_100)[:, None] > 4_400, 1.3 * column, column))
    other = ForecastMarket.of(later, TRADING, 17_520.0).with_regimes(np.ones((5_100, 1)))
    expected = evidence_frame(market, found)
    assert expected["validation_correlation"].notna().any()
    pd.testing.assert_frame_equal(evidence_frame(other, found), expected)


def test_noise_stays_flat() -> None:
    noise = align_bars(path_bars(MARKETS["noise"].law.draw(5_100, 0)), IngestionParameters())
    market = ForecastMarket.of(noise, TRADING, 17_520.0).with_regimes(np.ones((5_100, 1)))
    everything = ForecastingParameters(sleeves=("directional", "premium"))
    found = forecast_fold(market, FOLD, everything)
    assert not found.units.any()
    assert [part.weight for part in found.sleeves] == [0.0, 0.0]


def test_a_fold_with_too_few_train_rows_stays_flat_and_says_so(
    market: ForecastMarket, bars: AlignedBars, caplog: pytest.LogCaptureFixture
) -> None:
    found = forecast_fold(market, replace(FOLD, train=(Segment(600, 1_300),)), ForecastingParameters())
    assert "Fold 0 is not forecast and its rule stays flat: of its train rows 507 have all inputs" in caplog.text
    assert not found.units.any()
    frame = forecast_frame(bars, market, found)
    assert frame.empty and evidence_frame(market, found).empty
    assert not units_from_frame(frame, bars, 0).any()
    assert not evidence_figure(evidence_frame(market, found)).data


def test_what_moves_all_assets_alike_is_no_evidence_for_relative_values(market: ForecastMarket) -> None:
    """Forecasts of the mean of the assets are right, those of the differences are wrong."""
    rng = np.random.default_rng(2)
    common = 0.5 * rng.standard_normal((2_000, 1))
    difference = 0.3 * rng.standard_normal((2_000, 1)) * [1.0, -1.0]
    two = market._replace(
        targets=common - difference + rng.standard_normal((2_000, 2)), costs=np.full((2_000, 2), 0.01)
    )
    forecasts = (common + difference)[:, :, None]
    rows = np.arange(2_000)
    assert tried(sleeve("directional", 0.0, 0.0), forecasts, two, rows).gate_t > 3.0
    alone = tried(sleeve("relative", 0.0, 0.0), forecasts, two, rows).gate_t
    assert alone < -5.0
    unlisted = market._replace(
        targets=np.pad(two.targets, [(0, 0), (0, 1)], constant_values=np.nan),
        costs=np.pad(two.costs, [(0, 0), (0, 1)], constant_values=np.inf),
    )
    beside = tried(sleeve("relative", 0.0, 0.0), np.pad(forecasts, [(0, 0), (0, 1), (0, 0)]), unlisted, rows)
    assert beside.gate_t == pytest.approx(alone)  # an asset without bars has no part in the mean


def test_frames_hold_the_forecasts_and_give_the_positions_back(
    found: FoldForecasts, market: ForecastMarket, bars: AlignedBars
) -> None:
    frame = forecast_frame(bars, market, found)
    assert set(frame["part"]) == {"out_of_fold", "later"}
    np.testing.assert_array_equal(units_from_frame(frame, bars, 0), found.units)
    assert not units_from_frame(frame, bars, 1).any()
    row = frame[frame["timestamp"] == pd.Timestamp(bars.timestamps[4_500], tz="UTC")].iloc[0]
    assert row["bars_1"] == pytest.approx(found.forecasts["directional"][4_500, 0, 0], rel=1e-6)
    evidence = evidence_frame(market, found)
    assert list(evidence["segment"].unique()) == ["1", "2-4", "5-16", "17-48", "49-192"]
    best = evidence.iloc[0]
    assert best["t"] > 2.5 and best["correlation"] > 0.05 and best["validation_correlation"] > 0.05
    assert best["sleeve_weight"] == 1.0


def test_a_drawdown_limit_raises_the_price_of_risk_to_the_deviation_of_the_largest_position_over_it() -> None:
    """Half of the equity in each of two assets, 1 % a bar, under a limit of 8 %: 1/16 a bar, x sqrt(bars a year)."""
    volatility = np.full((4, 2), 0.01)
    volatility[0] = np.nan
    limited = replace(TRADING, max_drawdown=0.08)
    assert largest_risk(volatility, 25.0, limited)[1:] == pytest.approx(np.full((3, 2), 0.5 * 0.01 / 0.08))
    market = ForecastMarket(None, None, None, None, largest_risk(volatility, 25.0, limited), (), 0, 6_400.0)  # type: ignore[arg-type]
    assert market.price_of_risk(np.arange(4), 1.0) == pytest.approx(0.5 * 0.01 / 0.08 * 80.0)
    assert market.price_of_risk(np.arange(4), 7.0) == 7.0
    assert market.price_of_risk(np.arange(1), 1.0) == 1.0  # nothing is known there
    capped = replace(limited, masks=MaskParameters(target_volatility=0.02))  # a day of 25 bars: 0.4 % a bar
    assert largest_risk(volatility, 25.0, capped)[1] == pytest.approx([0.5 * 0.004 / 0.08] * 2)
    tail = replace(limited, masks=MaskParameters(position_var=0.02 * norm.isf(0.01)))
    assert largest_risk(volatility, 25.0, tail)[1] == pytest.approx([0.5 * 0.004 / 0.08] * 2)
    assert not largest_risk(volatility, 25.0, TRADING).any()


@pytest.mark.parametrize("latency", [0, 8])
def test_a_fold_is_forecast_only_where_targets_end_before_the_first_forecast(bars: AlignedBars, latency: int) -> None:
    trading = replace(TRADING, orders=replace(TRADING.orders, latency_bars=latency))
    market = ForecastMarket.of(bars, trading, 17_520.0)
    inside = market.purge  # rows at a segment's end whose targets leave it
    for rows, forecast in ((3 * (100 + market.purge) - 1, False), (3 * (100 + market.purge), True)):
        begin = 1_100
        fold = Fold(0, (Segment(begin, begin + rows + inside),), (), (Segment(begin + rows + inside, 2_500),))
        found = forecast_fold(
            market.with_regimes(np.ones((len(bars.timestamps), 1))),
            fold,
            ForecastingParameters(sleeves=("directional",)),
        )
        assert bool(found.sleeves) == forecast
