"""Variants of the test: each equals a run of its own, and the break-even breaks even."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from tests.agent.awake import awaken

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import (
    BacktestParameters,
    CostParameters,
    FeatureColumn,
    IngestionParameters,
    NetworkParameters,
    RobustnessParameters,
    TradingParameters,
)
from sentio_kedro.evaluation.backtest import stress_variants as variants
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.evaluation.backtest.bootstrap_paths import PathPrices, begin_sessions, draw_rows
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.robustness import break_even_cost
from sentio_kedro.evaluation.backtest.stress_variants import Variant, simulate_variants
from sentio_kedro.evaluation.run_frames import COLUMNS
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.bars import align_bars
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.tensors import market_tensors
from sentio_kedro.market.timestamps import Floats
from sentio_kedro.trading.performance import maximum_drawdown, sharpe_ratio
from sentio_kedro.trading.precompute import make_step_data

NETWORK = NetworkParameters(width=8, heads=2, window=4, convolution=2, hidden=8, quantiles=5)
FEATURES = [FeatureColumn(name="r1", indicator="log_return")]
REGIMES = {
    "means": [0.0, 0.0], "deviations": [0.005, 0.02], "transition": [[0.9, 0.1], [0.2, 0.8]],
    "stationary": [2 / 3, 1 / 3], "memory": 16,
}  # fmt: skip
BARS, FIRST, PER_YEAR = 240, 150, 17520.0
FOLDS = [Fold(0, (), (), (Segment(FIRST, 195),)), Fold(1, (), (), (Segment(195, BARS - 1),))]
FREE = TradingParameters(costs=CostParameters(commission_bps=2, half_spread_bps=1))
NOTHING = RobustnessParameters(cost_multipliers=None, latency_bars=None, start_offsets=None, paths=None)
REALISTIC = TradingParameters(
    calendar="24/7",
    max_drawdown=0.08,
    orders={"participation": 0.2, "min_notional": 10.0},
    masks={"overnight": False, "daily_loss": 0.02, "target_volatility": 0.2, "regime_exposure": [1.0, 0.5]},
    costs={"impact": 1.0},
    carry={"borrow_rate": 0.03, "financing_rate": 0.06, "funding": True},
    margin={"initial": 0.5, "maintenance": 0.25},
)


def make_agent(fold: int, seed: int, trading: TradingParameters) -> AgentBundle:
    """An untrained agent whose opinion changes from bar to bar."""
    shape = NetworkShape(features=1, assets=2, regimes=2, actions=4)
    network = build_network(NETWORK, shape, torch.Generator().manual_seed(10 * seed + fold))
    awaken(network)
    with torch.no_grad():
        network.head.policy.weight.mul_(500.0)
        network.encoder.set_scaler(torch.zeros(1), torch.full((1,), 0.01), torch.zeros(1))
    spec = AgentSpec(
        fold=fold, seed=seed, members=1, symbols=["AAA", "BBB"], periods_per_year=PER_YEAR, gamma=0.9,
        required_bars=120,
        train_start="2019-01-01T00:00:00+00:00", train_end="2019-06-01T00:00:00+00:00", features=FEATURES,
        network=NETWORK, trading=trading, regimes=REGIMES, train_sharpe=0.0, validation_sharpe=0.0, hashes={},
    )  # fmt: skip
    return AgentBundle(spec, (network.state_dict(),))


def agents_of(trading: TradingParameters) -> dict[str, AgentBundle]:
    agents = [make_agent(fold, seed, trading) for fold in (0, 1) for seed in (0, 1)]
    return {agent.name: agent for agent in agents}


@pytest.fixture(scope="module", name="bars")
def bars_fixture() -> AlignedBars:
    returns = [autoregressive_returns(BARS, 0.2, 0.01, seed=seed) for seed in (0, 1)]
    frames = [planted_bars(path, name) for path, name in zip(returns, ("AAA", "BBB"), strict=True)]
    aligned = align_bars(pd.concat(frames), IngestionParameters())
    dividend = np.zeros((BARS, 2))
    dividend[180] = 0.3
    return replace(aligned, volume=aligned.volume * 1_000.0, dividend=dividend)


@pytest.fixture(scope="module", name="features")
def features_fixture(bars: AlignedBars) -> Floats:
    return compute_features(bars, FEATURES)


def backtested(
    bars: AlignedBars,
    features: Floats,
    trading: TradingParameters,
    stress: RobustnessParameters = NOTHING,
    folds: list[Fold] = FOLDS,
    agents: dict[str, AgentBundle] | None = None,
) -> dict[str, pd.DataFrame]:
    by_name = agents_of(trading) if agents is None else agents
    return backtest_folds(bars, features, folds, by_name, trading, BacktestParameters(robustness=stress), PER_YEAR)


def row_of(frame: pd.DataFrame, kind: str, value: float) -> pd.DataFrame:
    chosen = frame[(frame["kind"] == kind) & (frame["value"] == value)]
    assert len(chosen) == 2
    return chosen.set_index("account")


def same_run(row: pd.DataFrame, accounts: pd.DataFrame) -> None:
    """A variant's figures are those of the accounts of a run of its own."""
    for name in ("seed_0", "seed_1"):
        rows = accounts[accounts["account"] == name]
        returns = torch.from_numpy(rows["return"].to_numpy().copy())
        assert row.loc[name, "total_return"] == pytest.approx(rows["equity"].iloc[-1] / 1e6 - 1.0, abs=1e-12)
        assert row.loc[name, "sharpe"] == pytest.approx(float(sharpe_ratio(returns, PER_YEAR)), rel=1e-9)
        assert row.loc[name, "max_drawdown"] == pytest.approx(float(maximum_drawdown(returns)), rel=1e-9)
        assert row.loc[name, "turnover"] == pytest.approx(rows["turnover"].mean(), rel=1e-9)
        paid = rows[["commission", "spread", "impact"]].sum(axis=1).sum() / rows["turnover"].sum()
        assert row.loc[name, "cost_bps"] == pytest.approx(1e4 * paid, rel=1e-9)


@pytest.mark.parametrize("trading", [FREE, REALISTIC], ids=["free", "realistic"])
def test_every_variant_is_a_run_with_its_parameters(
    bars: AlignedBars, features: Floats, trading: TradingParameters
) -> None:
    agents = agents_of(trading)
    stress = RobustnessParameters(cost_multipliers=[1.0, 2.0], latency_bars=[0, 2], start_offsets=[0, 7], paths=1)
    frames = backtested(bars, features, trading, stress, agents=agents)
    frame = frames["robustness"]
    for kind, value in (("cost", 1.0), ("latency", 0.0), ("start", 0.0)):
        same_run(row_of(frame, kind, value), frames["accounts"])
    costs = trading.costs
    names = ("commission_bps", "half_spread_bps", "impact")
    double = replace(costs, **{name: 2 * getattr(costs, name) for name in names})
    dear = backtested(bars, features, replace(trading, costs=double), agents=agents)
    same_run(row_of(frame, "cost", 2.0), dear["accounts"])
    late = backtested(bars, features, replace(trading, orders=replace(trading.orders, latency_bars=2)), agents=agents)
    same_run(row_of(frame, "latency", 2.0), late["accounts"])
    assert row_of(frame, "path", 0.0)["total_return"].ne(row_of(frame, "cost", 1.0)["total_return"]).all()


def test_a_late_start_is_a_run_that_starts_late(bars: AlignedBars, features: Floats) -> None:
    frame = backtested(bars, features, FREE, replace(NOTHING, start_offsets=[7]))["robustness"]
    assert set(frame["kind"]) == {"start"}
    later = [replace(FOLDS[0], test=(Segment(FIRST + 7, 195),)), FOLDS[1]]
    accounts = backtested(bars, features, FREE, folds=later)["accounts"]
    for name, row in row_of(frame, "start", 7.0).iterrows():
        rows = accounts[accounts["account"] == name]
        assert row["total_return"] == pytest.approx(rows["equity"].iloc[-1] / 1e6 - 1.0, abs=1e-12)
        assert row["turnover"] == pytest.approx(rows["turnover"].sum() / (BARS - 1 - FIRST), rel=1e-9)


def test_the_break_even_breaks_even(bars: AlignedBars, features: Floats) -> None:
    agents = agents_of(FREE)
    stress = replace(NOTHING, cost_multipliers=[10.0, 20.0, 30.0])
    frame = backtested(bars, features, FREE, stress, agents=agents)["robustness"]
    rows = frame[frame["kind"] == "break_even"].set_index("account")
    solved = 0
    for name, row in rows.iterrows():
        assert row[["sharpe", "total_return", "turnover"]].isna().all()
        if row["value"] == 0.0:
            continue
        solved += 1
        costs = CostParameters(commission_bps=2 * row["value"], half_spread_bps=row["value"])
        again = backtested(bars, features, replace(FREE, costs=costs), agents=agents)["accounts"]
        growth = np.log(again[again["account"] == name]["equity"].iloc[-1] / 1e6)
        assert abs(growth) < 1e-3
        assert row["cost_bps"] == pytest.approx(3 * row["value"], rel=1e-9)
    assert solved


def test_a_path_of_the_rows_in_order_is_what_happened(
    bars: AlignedBars, features: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "CHUNK_ROWS", 16)
    monkeypatch.setattr(
        variants, "draw_rows", lambda rows, paths, *_: torch.arange(rows)[:, None].expand(-1, len(paths))
    )
    by_fold = {fold: [make_agent(fold, seed, REALISTIC) for seed in (0, 1)] for fold in (0, 1)}
    context = BacktestContext.of(bars, features, by_fold, REALISTIC)
    results = simulate_variants(context, FOLDS, [Variant(), Variant(path=0)], None, 0)
    assert torch.equal(results.returns[:, 0], results.returns[:, 1])
    assert results.turnover[0].gt(0.0).all()


def test_steps_of_a_path_keep_their_ratios_and_go_on_from_each_other(bars: AlignedBars, features: Floats) -> None:
    market = market_tensors(bars, features, np.ones((BARS, 1)), REALISTIC)
    source = torch.tensor([[3, 5, 6, 100, 20, 21], [0, 1, 2, 3, 4, 5]]).T  # [S, V]
    trading = replace(REALISTIC, orders=replace(REALISTIC.orders, stop_loss=0.1))
    rows = FIRST - 100 + source[..., None]
    plain = make_step_data(market, rows, trading)
    prices = PathPrices([True, False])
    parts = [prices.rescale(plain.part(*piece)) for piece in ((0, 2), (2, 6))]
    close, after = (torch.cat([getattr(part, name) for part in parts])[:, 0, 0] for name in ("close", "next_close"))
    assert torch.allclose(close[1:], after[:-1], rtol=1e-14)
    for name in ("open", "next_close", "high", "low", "dividend"):
        scaled, unscaled = torch.cat([getattr(part, name) for part in parts]), getattr(plain, name)
        assert torch.allclose(scaled[:, 0, 0] / close, unscaled[:, 0, 0] / plain.close[:, 0, 0], rtol=1e-13)
        assert torch.equal(scaled[:, 1], unscaled[:, 1])
    shares = 1e6 / close  # the impact of trading a value does not depend on the price level
    impact = torch.cat([part.impact for part in parts])[:, 0, 0] * shares.sqrt()
    assert torch.allclose(impact, plain.impact[:, 0, 0] * (1e6 / plain.close[:, 0, 0]).sqrt(), rtol=1e-13)
    value = torch.cat([part.max_shares for part in parts])[:, 0, 0] * close
    assert torch.allclose(value, (plain.max_shares * plain.close)[:, 0, 0], rtol=1e-13)


def test_a_session_begins_where_blocks_join(bars: AlignedBars, features: Floats) -> None:
    daily = replace(REALISTIC, masks=replace(REALISTIC.masks, daily_loss=0.02))
    market = market_tensors(bars, features, np.ones((BARS, 1)), daily)
    source = torch.tensor([[0, 1, 9, 10], [0, 1, 2, 3]]).T
    step_data = make_step_data(market, FIRST + source[..., None], daily)
    starts = begin_sessions(step_data.part(1, 4), source, Segment(1, 4)).session_starts
    assert starts is not None
    sessions = step_data.session_starts
    assert sessions is not None
    assert starts[:, 1].equal(sessions[1:, 1])
    assert starts[:, 0, 0, 0].tolist() == [bool(sessions[1, 0, 0, 0]), True, bool(sessions[3, 0, 0, 0])]


def test_paths_are_drawn_from_their_seed_and_shared() -> None:
    first, again, other = (draw_rows(50, [None, 0, 1, 0], 5.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first[:, 0].tolist() == list(range(50))
    assert torch.equal(first[:, 1], first[:, 3])
    assert not torch.equal(first[:, 1], first[:, 2])
    assert int(first.min()) >= 0
    assert int(first.max()) < 50


def test_switched_off_parts_leave_no_rows(bars: AlignedBars, features: Floats) -> None:
    frame = backtested(bars, features, FREE)["robustness"]
    assert frame.empty
    assert list(frame.columns) == list(COLUMNS["robustness"])


def curve(*points: tuple[float, float, float, float]) -> tuple[np.ndarray, ...]:
    """Multipliers, log returns, costs paid and bps per side."""
    return tuple(np.array(column) for column in zip(*points, strict=True))


def test_the_break_even_lies_on_the_line_between_the_last_multiplier_that_earns_and_the_first_that_loses() -> None:
    points = curve((0.5, 0.08, 0.04, 1.0), (1.0, 0.03, 0.08, 2.0), (2.0, -0.01, 0.16, 5.0), (3.0, 0.02, 0.2, 6.0))
    assert break_even_cost(*points) == pytest.approx((1.75, 4.25))  # 3 quarters of the way from 1 to 2
    assert break_even_cost(*curve((1.0, 0.1, 0.2, 3.0), (2.0, 0.0, 0.4, 6.0))) == pytest.approx((2.0, 6.0))


def test_of_several_zeros_of_the_curve_the_first_is_the_break_even() -> None:
    points = [(1.0, 0.03, 0.08, 2.0), (2.0, -0.01, 0.16, 5.0), (3.0, 0.02, 0.2, 6.0), (4.0, -0.02, 0.3, 8.0)]
    assert break_even_cost(*curve(*points)) == pytest.approx((1.75, 4.25))  # not 3.5


def test_an_account_that_loses_at_the_smallest_multiplier_is_interpolated_from_no_costs() -> None:
    points = curve((0.5, -0.02, 0.06, 1.5), (1.0, -0.08, 0.12, 3.0))  # earns 0.04 without costs
    assert break_even_cost(*points) == pytest.approx((1 / 3, 1.0))


def test_an_account_that_loses_without_costs_has_a_break_even_of_zero() -> None:
    assert break_even_cost(*curve((0.5, -0.06, 0.05, 1.5), (1.0, -0.2, 0.1, 3.0))) == (0.0, 0.0)
    assert break_even_cost(*curve((0.0, -0.01, 0.0, 0.0), (1.0, 0.1, 0.1, 3.0))) == (0.0, 0.0)


def test_an_account_that_earns_at_every_simulated_multiplier_has_no_finite_break_even() -> None:
    multiplier, bps = break_even_cost(*curve((0.5, 0.2, 0.01, 1.0), (1.0, 0.1, 0.02, 2.0), (3.0, 0.001, 0.06, 6.0)))
    assert multiplier == np.inf
    assert np.isnan(bps)


def test_an_account_that_does_not_trade_has_no_break_even() -> None:
    assert np.isnan(break_even_cost(*curve((0.5, 0.0, 0.0, np.nan), (1.0, 0.0, 0.0, np.nan)))).all()


def test_an_empty_part_is_refused_with_the_way_to_switch_it_off() -> None:
    with pytest.raises(ValidationError) as refused:
        RobustnessParameters(cost_multipliers=[], paths=0)
    message = str(refused.value)
    assert "`backtest.robustness.cost_multipliers` must hold at least one value, was []; set it to null" in message
    assert "`backtest.robustness.paths` must be at least 1, was 0; set it to null to switch it off." in message
