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
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.robustness import break_even_cost
from sentio_kedro.evaluation.backtest.stress_variants import Variant, draw_paths, simulate_variants
from sentio_kedro.evaluation.run_frames import COLUMNS
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.trading.accounts import open_accounts
from sentio_kedro.trading.performance import maximum_drawdown, sharpe_ratio
from sentio_kedro.trading.records import CLOCK, FACTS, Market, records
from sentio_kedro.trading.step.walk import move_prices

NETWORK = NetworkParameters(width=8, heads=2, window=4, convolution=2, hidden=8, quantiles=5)
FEATURES = [FeatureColumn(name="r1", indicator="log_return")]
REGIMES = {
    "means": [0.0, 0.0], "deviations": [0.005, 0.02], "transition": [[0.9, 0.1], [0.2, 0.8]],
    "stationary": [2 / 3, 1 / 3], "memory": 16,
}  # fmt: skip
BARS, FIRST, PER_YEAR = 240, 150, 17520.0
FOLDS = [Fold(0, (), (), (Segment(FIRST, 195),)), Fold(1, (), (), (Segment(195, BARS - 1),))]
FREE = TradingParameters(costs=CostParameters(commission_bps=2, half_spread_bps=1))
NOTHING = RobustnessParameters(
    cost_multipliers=None, latency_bars=None, start_shares=None, without_seeds=False, paths=None
)
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
    shape = NetworkShape(features=1, assets=2, regimes=2, actions=3)
    network = build_network(NETWORK, shape, torch.Generator().manual_seed(10 * seed + fold))
    awaken(network)
    with torch.no_grad():
        network.head.policy.weight.mul_(500.0)
        network.encoder.set_scaler(torch.zeros(1), torch.full((1,), 0.01))
    spec = AgentSpec(
        fold=fold, seed=seed, members=1, symbols=["AAA", "BBB"], periods_per_year=PER_YEAR, gamma=0.9,
        required_bars=120,
        train_start="2019-01-01T00:00:00+00:00", train_end="2019-06-01T00:00:00+00:00", features=FEATURES,
        network=NETWORK, trading=trading, regimes=REGIMES | {"means": [0.0, 0.005 * fold]}, train_sharpe=0.0,
        validation_sharpe=0.0, hashes={},
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
    assert len(chosen) == 1
    return chosen.set_index("account")


def same_run(row: pd.DataFrame, accounts: pd.DataFrame) -> None:
    """A variant's figures are those of the ensemble in a run of its own."""
    for name in ("ensemble",):
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
    stress = RobustnessParameters(cost_multipliers=[1.0, 2.0], latency_bars=[0, 2], start_shares=None, paths=1)
    frames = backtested(bars, features, trading, stress, agents=agents)
    frame = frames["robustness"]
    for kind, value in (("cost", 1.0), ("latency", 0.0)):
        same_run(row_of(frame, kind, value), frames["accounts"])
    costs = trading.costs
    names = ("commission_bps", "half_spread_bps", "impact")
    double = replace(costs, **{name: 2 * getattr(costs, name) for name in names})
    dear = backtested(bars, features, replace(trading, costs=double), agents=agents)
    same_run(row_of(frame, "cost", 2.0), dear["accounts"])
    late = backtested(bars, features, replace(trading, orders=replace(trading.orders, latency_bars=2)), agents=agents)
    same_run(row_of(frame, "latency", 2.0), late["accounts"])
    assert row_of(frame, "path", 0.0)["total_return"].ne(row_of(frame, "cost", 1.0)["total_return"]).all()


def test_a_position_that_a_halt_keeps_between_folds_is_worth_what_it_is_worth(
    bars: AlignedBars, features: Floats
) -> None:
    hidden = np.zeros((BARS, 2), dtype=bool)
    hidden[192:197] = True  # neither asset can be sold at the end of the first fold
    folds = [FOLDS[0], replace(FOLDS[1], test=(Segment(200, BARS - 1),))]
    agents = agents_of(FREE)
    stress = replace(NOTHING, cost_multipliers=[1.0], paths=1)
    frames = backtested(bars.without(hidden), features, FREE, stress, folds, agents)
    accounts = frames["accounts"]
    assert (accounts[accounts["row"] == 194].set_index("account").loc["ensemble", "gross_exposure"] > 0).all()
    row = row_of(frames["robustness"], "cost", 1.0)
    for name in ("ensemble",):
        equity = accounts.loc[accounts["account"] == name, "equity"].iloc[-1]
        assert row.loc[name, "total_return"] == pytest.approx(equity / 1e6 - 1.0, abs=1e-12)


def test_an_asset_that_is_listed_in_the_test_rows_returns_nothing_before(bars: AlignedBars, features: Floats) -> None:
    hidden = np.zeros((BARS, 2), dtype=bool)
    hidden[:170, 1] = True
    listed = bars.without(hidden)
    holdings = backtested(listed, np.where(hidden[..., None], np.nan, features), FREE)["holdings"]
    found = holdings.query("account == 'ensemble' and fold == 0 and symbol == 'BBB'")["asset_return"].item()
    total = listed.close[170:196, 1] + np.where(np.arange(170, 196) == 180, 0.3, 0.0)
    assert found == pytest.approx((total[1:] / listed.close[170:195, 1] - 1.0).sum())


def test_an_ensemble_without_a_seed_is_that_of_the_others(bars: AlignedBars, features: Floats) -> None:
    agents = [make_agent(fold, seed, FREE) for fold in (0, 1) for seed in (0, 1, 2)]
    by_name = {agent.name: agent for agent in agents}
    left_out = replace(NOTHING, without_seeds=True)
    frame = backtested(bars, features, FREE, left_out, agents=by_name)["robustness"]
    assert frame[["kind", "value", "account"]].values.tolist() == [["without", seed, "ensemble"] for seed in (0, 1, 2)]
    for seed in (0, 1, 2):
        others = {agent.name: agent for agent in agents if agent.spec.seed != seed}
        same_run(row_of(frame, "without", seed), backtested(bars, features, FREE, agents=others)["accounts"])
    two = backtested(bars, features, FREE, left_out)
    for seed in (0, 1):  # of two seeds the other one remains
        alone = two["accounts"][two["accounts"]["account"] == f"seed_{1 - seed}"].assign(account="ensemble")
        same_run(row_of(two["robustness"], "without", seed), alone)
    single = {agent.name: agent for agent in agents if agent.spec.seed == 0}
    assert backtested(bars, features, FREE, left_out, agents=single)["robustness"].empty


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
    monkeypatch.setattr(variants, "draw_paths", lambda rows, paths, *_: np.tile(np.arange(rows), (1 + paths, 1)))
    by_fold = {fold: [make_agent(fold, seed, REALISTIC) for seed in (0, 1)] for fold in (0, 1)}
    context = BacktestContext.of(bars, features, by_fold, REALISTIC)
    results = simulate_variants(context, FOLDS, [Variant(), Variant(path=0)], None, 0)
    assert np.array_equal(results.returns[:, 0], results.returns[:, 1])
    assert (results.turnover[0] > 0.0).all()


def walked_along(path: list[int], chunk: int, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Returns ``[S]`` of an account that is always fully long of one asset, along source rows, and the asset's own."""
    rng = np.random.default_rng(3)
    close = 100.0 * np.exp(np.cumsum(0.02 * rng.standard_normal((60, 1)), axis=0))
    opened = np.vstack([[[100.0]], close[:-1]])
    stamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(60) * np.timedelta64(30, "m")
    bars = AlignedBars(
        stamps, ("AAA",), opened, np.maximum(opened, close), np.minimum(opened, close), close, np.ones((60, 1))
    )
    free = TradingParameters(preset="none", levels=[0.0, 1.0])
    agent = always_long(free)
    context = BacktestContext.of(bars, np.zeros((60, 1, 1)), {0: [agent]}, free)
    fold = Fold(0, (), (), (Segment(20, 20 + len(path)),))
    monkeypatch.setattr(variants, "CHUNK_ROWS", chunk)
    monkeypatch.setattr(variants, "draw_paths", lambda rows, *_: np.array([np.arange(rows), path]))
    returns = simulate_variants(context, [fold], [Variant(path=0)], None, 0).returns[:, 0, 0]
    return returns, (close[21:] / close[20:-1] - 1.0)[path, 0]


def always_long(trading: TradingParameters) -> AgentBundle:
    """An agent of one asset that wants the last level at every bar."""
    network = build_network(NETWORK, NetworkShape(1, 1, 2, len(trading.levels)), torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.head.policy.weight.zero_()
        network.head.policy.bias.copy_(torch.tensor([0.0, 1.0]).repeat(len(network.head.policy.bias) // 2))
    spec = replace(make_agent(0, 0, trading).spec, symbols=["AAA"])
    return AgentBundle(spec, (network.state_dict(),))


@pytest.mark.parametrize("chunk", [100, 3, 1])
def test_prices_of_a_path_go_on_where_its_blocks_join(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    returns, of_asset = walked_along([3, 4, 5, 1, 2, 7, 0, 1], chunk, monkeypatch)
    assert returns[:-1] == pytest.approx(of_asset[:-1], rel=1e-12)
    assert returns[-1] == 0.0  # sold at the last open, which is the close before


def test_what_a_session_lost_is_forgotten_where_blocks_join() -> None:
    trading = replace(REALISTIC, calendar=None, masks=replace(REALISTIC.masks, overnight=True))
    facts, clock = records((4, 1), FACTS), records((4,), CLOCK)
    facts.close, facts.next_close = [[10.0], [20.0], [40.0], [80.0]], [[20.0], [40.0], [80.0], [160.0]]
    market = Market(facts, clock, np.full((4, 1, 2), np.inf))
    accounts = open_accounts(2, 1, trading)
    accounts.account.session_equity, accounts.account.equity = 2e6, 1e6
    accounts.holdings.shares, accounts.holdings.entry_price = 8.0, 100.0
    accounts.holdings.trades_today, accounts.holdings.opened_today = 3.0, 1.0
    move_prices(0, 2, 1, market, accounts)
    assert accounts.account.session_equity.tolist() == [1e6, 2e6]
    assert accounts.account.peak_equity.tolist() == [1e6, 1e6]
    assert accounts.holdings.shares[:, 0].tolist() == [32.0, 8.0]  # the price falls from 80 to 20
    assert accounts.holdings.entry_price[:, 0].tolist() == [25.0, 100.0]
    assert accounts.holdings.trades_today[:, 0].tolist() == [0.0, 3.0]
    assert accounts.holdings.opened_today[:, 0].tolist() == [0.0, 1.0]


def test_paths_are_drawn_from_their_seed() -> None:
    first, again, other = (draw_paths(50, 2, 5.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[0].tolist() == list(range(50))
    assert not np.array_equal(first[1], first[2])
    assert (first.min(), first.shape) == (0, (3, 50))
    assert first.max() < 50
    assert draw_paths(3, 0, None, np.random.default_rng(0)).tolist() == [[0, 1, 2]]


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
