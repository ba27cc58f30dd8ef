"""The out-of-sample test: one accounting, joined folds, nothing that was seen in training."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.agent.awake import awaken

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.ensemble import as_one
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import (
    BacktestParameters,
    CostParameters,
    CrossValidationParameters,
    FeatureColumn,
    IngestionParameters,
    NetworkParameters,
    RobustnessParameters,
    TradingParameters,
)
from sentio_kedro.evaluation.backtest import segments
from sentio_kedro.evaluation.backtest.backtest import backtest_agent, backtest_folds
from sentio_kedro.evaluation.backtest.baselines.by_fold import concatenate_schedules, fold_baselines
from sentio_kedro.evaluation.backtest.baselines.portfolios import trailing_portfolio
from sentio_kedro.evaluation.backtest.baselines.schedules import (
    buy_and_hold,
    equal_weight,
    momentum,
    simulate_schedules,
)
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.segments import walk_forward
from sentio_kedro.evaluation.backtest.walk import final_accounts, simulate_rows
from sentio_kedro.market.folds import make_folds
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, hold
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.trading.records import LAYERS

NETWORK = NetworkParameters(width=8, heads=2, window=4, convolution=2, hidden=8, quantiles=5)
COLUMNS = [FeatureColumn(name="r1", indicator="log_return"), FeatureColumn(name="r3", indicator="log_return", bars=3)]
REGIMES = {
    "means": [0.0, 0.0], "deviations": [0.005, 0.02], "transition": [[0.9, 0.1], [0.2, 0.8]],
    "stationary": [2 / 3, 1 / 3], "memory": 16,
}  # fmt: skip
BARS, FIRST = 300, 150
QUICK = BacktestParameters(
    robustness=RobustnessParameters(cost_multipliers=None, latency_bars=None, start_shares=None, paths=None)
)
FOLDS = [
    Fold(0, (Segment(10, 110),), (Segment(110, FIRST),), (Segment(FIRST, 220),)),
    Fold(1, (Segment(10, 150),), (Segment(150, 219),), (Segment(220, BARS - 1),)),
]
FITTED = ("ridge", "boosted_trees")
RULES = ("buy_and_hold", "equal_weight", "momentum", *FITTED, "minimum_variance", "regime_rule")
LIMITS = TradingParameters(max_drawdown=0.08, costs=CostParameters(commission_bps=5, half_spread_bps=3))


def make_bars(symbols: tuple[str, ...] = ("AAA", "BBB")) -> AlignedBars:
    frames = [
        planted_bars(autoregressive_returns(BARS, 0.2, 0.01, seed=seed), symbol) for seed, symbol in enumerate(symbols)
    ]
    return align_bars(pd.concat(frames), IngestionParameters())


def make_agent(fold: int, seed: int, trading: TradingParameters = LIMITS, assets: int = 2) -> AgentBundle:
    """An untrained agent whose opinion changes from bar to bar."""
    shape = NetworkShape(features=2, assets=assets, regimes=2, actions=3)
    networks = [build_network(NETWORK, shape, torch.Generator().manual_seed(10 * seed + fold + m)) for m in range(2)]
    for network in networks:
        awaken(network)
        with torch.no_grad():
            network.head.policy.weight.mul_(500.0)
            network.encoder.set_scaler(torch.zeros(2), torch.full((2,), 0.01))
    spec = AgentSpec(
        fold=fold, seed=seed, members=2, symbols=["AAA", "BBB", "CCC"][:assets], periods_per_year=17520.0, gamma=0.9,
        required_bars=120, train_start="2019-01-01T00:00:00+00:00", train_end="2019-06-01T00:00:00+00:00",
        features=COLUMNS, network=NETWORK, trading=trading, regimes=REGIMES, train_sharpe=0.0, validation_sharpe=0.0,
        hashes={},
    )  # fmt: skip
    return AgentBundle(spec, tuple(network.state_dict() for network in networks))


def agents_of(*agents: AgentBundle) -> dict[str, AgentBundle]:
    return {agent.name: agent for agent in agents}


AGENTS = agents_of(*(make_agent(fold, seed) for fold in (0, 1) for seed in (0, 1)))


@pytest.fixture(scope="module", name="bars")
def bars_fixture() -> AlignedBars:
    return make_bars()


@pytest.fixture(scope="module", name="features")
def features_fixture(bars: AlignedBars) -> Floats:
    return compute_features(bars, COLUMNS)


@pytest.fixture(scope="module", name="frames")
def frames_fixture(bars: AlignedBars, features: Floats) -> dict[str, pd.DataFrame]:
    return backtest_folds(bars, features, FOLDS, AGENTS, LIMITS, QUICK, 17520.0)


def test_every_account_walks_every_test_row_once(frames: dict[str, pd.DataFrame]) -> None:
    accounts = frames["accounts"]
    assert set(accounts["account"]) == {"ensemble", "seed_0", "seed_1", "random", *RULES}
    for _, rows in accounts.groupby("account"):
        assert rows["row"].tolist() == list(range(FIRST, BARS - 1))
        assert rows["fold"].tolist() == [0] * 70 + [1] * 79


def test_returns_are_price_profits_less_costs_for_every_account(frames: dict[str, pd.DataFrame]) -> None:
    accounts = frames["accounts"]
    ledger = accounts["price_pnl"] - accounts["commission"] - accounts["spread"]
    assert np.allclose(accounts["return"], ledger, rtol=0, atol=1e-12)
    assert (accounts[["impact", "borrow", "financing", "funding", "dividends", "shortfall"]] == 0.0).all(axis=None)
    traded = accounts["turnover"] > 0
    paid = (accounts["commission"] + accounts["spread"])[traded]
    assert np.allclose(paid / accounts["turnover"][traded], 8e-4)  # every account, baselines included
    assert traded.groupby(accounts["account"]).any().all()


def test_equity_is_chained_over_folds(frames: dict[str, pd.DataFrame]) -> None:
    for _, rows in frames["accounts"].groupby("account"):
        assert np.allclose(rows["equity"], 1e6 * np.cumprod(1 + rows["return"]), rtol=1e-12)


def test_positions_times_bar_returns_are_the_price_profit(frames: dict[str, pd.DataFrame], bars: AlignedBars) -> None:
    own = frames["positions"]
    assert set(own["account"]) == {"ensemble"}
    table = own.pivot(index="timestamp", columns="symbol", values="position").to_numpy()
    bar = bars.close[FIRST + 1 :] / bars.open[FIRST + 1 :] - 1  # opens are the previous closes: no gap to carry
    profit = (table * bar).sum(axis=1)
    account = frames["accounts"].query("account == 'ensemble'")
    assert np.allclose(profit, account["price_pnl"], atol=1e-12)


def test_positions_are_handed_over_from_fold_to_fold_and_closed_at_the_end(frames: dict[str, pd.DataFrame]) -> None:
    exposure = frames["accounts"].pivot(index="row", columns="account", values="gross_exposure")
    agents = ["ensemble", "seed_0", "seed_1", "random"]
    assert (exposure.loc[219, agents] > 0.0).any()
    assert (exposure.loc[BARS - 2] == 0.0).all()
    over = frames["trades"].query("account in @agents and entry_row < 219 and exit_row > 220")
    assert len(over)


def test_positions_are_closed_before_a_gap_between_folds(bars: AlignedBars, features: Floats) -> None:
    apart = [FOLDS[0], replace(FOLDS[1], test=(Segment(230, BARS - 1),))]
    accounts = backtest_folds(bars, features, apart, AGENTS, LIMITS, QUICK, 17520.0)["accounts"]
    agents = accounts[accounts["account"].isin(["ensemble", "seed_0", "seed_1", "random"])]
    assert (agents[agents["row"] == 219]["gross_exposure"] == 0.0).all()
    assert (agents[agents["row"] == 215]["gross_exposure"] > 0.0).any()


def test_the_ensemble_is_one_agent_of_all_members(
    frames: dict[str, pd.DataFrame], bars: AlignedBars, features: Floats
) -> None:
    merged = agents_of(*(as_one([make_agent(fold, 0), make_agent(fold, 1)]) for fold in (0, 1)))
    alone = backtest_folds(bars, features, FOLDS, merged, LIMITS, QUICK, 17520.0)
    assert set(alone["accounts"]["account"]) == {"seed_0", "random", *RULES}  # which is its own ensemble
    for name in ("accounts", "trades", "positions", "actions", "masks"):
        one, other = (
            found[name][found[name]["account"] == account].drop(columns="account").reset_index(drop=True)
            for found, account in ((frames, "ensemble"), (alone, "seed_0"))
        )
        pd.testing.assert_frame_equal(one, other)
    seeds = frames["accounts"].pivot(index="row", columns="account", values="net_exposure")
    assert not np.allclose(seeds["ensemble"], seeds["seed_0"])


def test_round_trips_add_up_to_the_profit(frames: dict[str, pd.DataFrame]) -> None:
    for name, rows in frames["accounts"].groupby("account"):
        profit = rows["equity"].iloc[-1] - 1e6
        round_trips = frames["trades"][frames["trades"]["account"] == name]
        assert round_trips["pnl"].sum() == pytest.approx(profit, abs=1e-4)


def test_actions_are_counted_and_legal(frames: dict[str, pd.DataFrame]) -> None:
    actions = frames["actions"]
    assert (actions["count"] <= actions["legal"]).all()
    last = 1  # at the last row the position is left whatever the agent says
    decided = actions.groupby(["account", "symbol"])["count"].sum()
    assert (decided == BARS - 1 - FIRST - last).all()


def test_levels_are_counted_where_an_asset_leaves_a_choice(
    frames: dict[str, pd.DataFrame], acting: dict[str, pd.DataFrame]
) -> None:
    assert list(frames["actions"]["action"].unique()) == ["-1", "0", "+1"]
    decided = acting["actions"].groupby(["account", "symbol"])["count"].sum().unstack("symbol")
    assert (decided["BBB"] < decided["AAA"]).all()  # its bars end 15 before the others, which halt for 3
    assert decided["AAA"].max() <= BARS - 1 - FIRST - 1 - 3


def test_costs_only_take(bars: AlignedBars, features: Floats) -> None:
    free = replace(LIMITS, costs=CostParameters(commission_bps=0, half_spread_bps=0), max_drawdown=None)
    paying = replace(free, costs=CostParameters(commission_bps=5, half_spread_bps=3))
    final = {}
    for name, trading in (("free", free), ("paying", paying)):
        agents = agents_of(*(make_agent(fold, 0, trading) for fold in (0, 1)))
        frames = backtest_folds(bars, features, FOLDS, agents, trading, QUICK, 17520.0)
        final[name] = frames["accounts"].groupby("account")["equity"].last()
    assert (final["paying"] < final["free"]).all()


def test_twice_every_cost_lowers_what_each_baseline_leaves(bars: AlignedBars, features: Floats) -> None:
    prices = TradingParameters(
        costs={"commission_bps": 2, "commission_per_share": 0.01, "min_commission": 5, "impact": 0.3},
        carry={"borrow_rate": 0.05, "financing_rate": 0.1},
    )
    context = BacktestContext.of(bars, features, {fold: [make_agent(fold, 0)] for fold in (0, 1)}, prices)
    span = Segment(FIRST, BARS - 1)
    timestamps, parameters = bars.timestamps, replace(QUICK, portfolio_bars=100)
    rules = {
        "buy_and_hold": buy_and_hold(context.market, *span, prices),
        "equal_weight": equal_weight(timestamps[slice(*span)], 2, parameters, prices),
        "momentum": momentum(context.market, timestamps, *span, parameters, prices, 17520.0),
        "minimum_variance": trailing_portfolio(
            "minimum_variance", context.market, timestamps, *span, parameters, prices
        ),
        "risk_parity": trailing_portfolio("risk_parity", context.market, timestamps, *span, parameters, prices),
        **concatenate_schedules(fold_baselines(replace(context, trading=LIMITS), FOLDS, parameters), span),
    }
    assert set(rules) == {*RULES, "risk_parity"}
    left = {}
    for name, twice in {"once": (), "commission": ("commission_bps", "commission_per_share", "min_commission"),
                        "spread": ("half_spread_bps",), "impact": ("impact",)}.items():  # fmt: skip
        costs = replace(prices.costs, **{cost: 2 * getattr(prices.costs, cost) for cost in twice})
        dearer = replace(context, trading=replace(prices, costs=costs))
        left[name] = final_accounts(simulate_schedules(dearer, span, rules)).account.equity
    for name in ("commission", "spread", "impact"):
        assert (left[name] < left["once"] - 1.0).all(), name  # the same orders, and more paid for them


def test_prices_after_a_row_change_nothing_before_it(frames: dict[str, pd.DataFrame], bars: AlignedBars) -> None:
    later = 230
    factor = np.where(np.arange(BARS) > later, 3.0, 1.0)[:, None]
    changed = replace(bars, **{name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")})
    again = backtest_folds(changed, compute_features(changed, COLUMNS), FOLDS, AGENTS, LIMITS, QUICK, 17520.0)
    for name in ("accounts", "positions"):
        first, second = frames[name], again[name]
        timestamp = pd.Timestamp(bars.timestamps[later]).tz_localize("UTC")
        keep = first["timestamp"] < timestamp
        pd.testing.assert_frame_equal(first[keep], second[keep])


def test_agents_that_saw_the_rows_are_refused(bars: AlignedBars, features: Floats) -> None:
    seen = make_agent(0, 0)
    seen = AgentBundle(replace(seen.spec, train_end="2020-01-04T03:30:00+00:00"), seen.weights)  # row 150 + 1
    with pytest.raises(ValueError, match="was trained on bars from 2019-01-01"):
        backtest_folds(bars, features, FOLDS[:1], agents_of(seen), LIMITS, QUICK, 17520.0)


def test_an_agent_from_elsewhere_trades_all_rows_that_its_features_allow(bars: AlignedBars, features: Floats) -> None:
    frames = backtest_agent(bars, features, make_agent(7, 3), QUICK, 17520.0)
    own = frames["accounts"].query("account == 'seed_3'")
    assert own["row"].tolist() == list(range(119, BARS - 1))
    assert set(own["fold"]) == {7}
    fitted = frames["accounts"]["account"].isin(FITTED)
    assert not fitted.any()  # there are no train rows to fit them on
    assert set(RULES) - set(FITTED) <= set(frames["accounts"]["account"])


def test_too_few_bars_for_an_agent_are_refused(bars: AlignedBars, features: Floats) -> None:
    agent = make_agent(0, 0)
    hungry = AgentBundle(replace(agent.spec, required_bars=299), agent.weights)
    with pytest.raises(ValueError, match="give at least 301"):
        backtest_agent(bars, features, hungry, QUICK, 17520.0)


def test_a_missing_fold_is_named(bars: AlignedBars, features: Floats) -> None:
    with pytest.raises(ValueError, match=r"No agent of fold 1"):
        backtest_folds(bars, features, FOLDS, agents_of(make_agent(0, 0)), LIMITS, QUICK, 17520.0)


def test_only_folds_that_train_on_the_past_are_one_path() -> None:
    past = [replace(fold, train=(Segment(0, fold.test[0].start - 1),)) for fold in FOLDS]
    assert walk_forward(past)
    assert not walk_forward(list(reversed(past)))
    later = replace(FOLDS[0], train=(Segment(0, 100), Segment(250, 290)))  # combinatorial, one test group
    assert not walk_forward([later, FOLDS[1]])
    chosen_later = replace(past[0], validation=(Segment(250, 290),))
    assert not walk_forward([chosen_later, FOLDS[1]])


def test_folds_of_a_k_fold_are_no_path() -> None:
    parameters = CrossValidationParameters(scheme="k_fold", folds=3, lockbox=None)
    assert not walk_forward(make_folds(300, Spans(input=20, reward=1, episode=5), parameters))


EVERYTHING = TradingParameters(
    max_drawdown=0.08,
    net_limit=1.0,
    var_limit=0.2,
    orders={"stop_loss": 0.008, "take_profit": 0.03, "lot_size": 1.0, "participation": 0.2},
    masks={"target_volatility": 0.2, "position_var": 0.2, "regime_exposure": [1.0, 0.5], "liquidity": 0.5},
    costs={"commission_per_share": 0.001, "impact": 1.0},
    carry={"borrow_rate": 0.03, "financing_rate": 0.06, "interest_rate": 0.02, "funding": True},
    margin={"initial": 0.5, "maintenance": 0.25},
)
LINES = ["price_pnl", "dividends", "commission", "spread", "impact", "borrow", "funding", "financing", "shortfall"]


def acting_bars() -> AlignedBars:
    """Bars with a split of AAA, dividends of both, funding, a halt, and an end of BBB before the bars'."""
    bars = make_bars()
    prices, shares = np.ones((BARS, 2)), np.full((BARS, 2), 500.0)
    prices[230:, 0], shares[230:, 0] = 0.5, 1_000.0
    split, dividend, funding = np.ones((BARS, 2)), np.zeros((BARS, 2)), np.full((BARS, 2), 1e-5)
    split[230, 0], dividend[170, 0], dividend[240, 1] = 2.0, 0.4, 0.7
    columns = {name: getattr(bars, name) * prices for name in ("open", "high", "low", "close")}
    hidden = np.zeros((BARS, 2), dtype=bool)
    hidden[219:222, 0] = True  # where the folds meet
    hidden[285:, 1] = True
    acting = replace(bars, **columns, volume=bars.volume * shares, split=split, dividend=dividend, funding=funding)
    return acting.without(hidden)


@pytest.fixture(scope="module", name="acting")
def acting_fixture() -> dict[str, pd.DataFrame]:
    bars = acting_bars()
    agents = agents_of(*(make_agent(fold, seed, EVERYTHING) for fold in (0, 1) for seed in (0, 1)))
    return backtest_folds(bars, compute_features(bars, COLUMNS), FOLDS, agents, EVERYTHING, QUICK, 17520.0)


def test_the_ledger_explains_every_return(acting: dict[str, pd.DataFrame]) -> None:
    accounts = acting["accounts"]
    signs = {"price_pnl": 1.0, "dividends": 1.0, "shortfall": 1.0}
    explained = sum(accounts[line] * signs.get(line, -1.0) for line in LINES)
    assert np.allclose(accounts["return"], explained, rtol=0, atol=1e-12)
    used = (accounts[LINES[:-1]] != 0.0).any()
    assert used.all(), used


def test_round_trips_with_stops_splits_and_dividends_add_up(acting: dict[str, pd.DataFrame]) -> None:
    for name, rows in acting["accounts"].groupby("account"):
        before = rows["equity"].shift(1, fill_value=1e6)
        profit = rows["equity"].iloc[-1] - 1e6 + (rows["financing"] * before).sum()  # interest belongs to no trip
        round_trips = acting["trades"][acting["trades"]["account"] == name]
        assert round_trips["pnl"].sum() == pytest.approx(profit, abs=1e-4)
        paid = (rows[["commission", "spread", "impact", "borrow", "funding"]].sum(axis=1) * before).sum()
        equity = (round_trips["pnl"] / round_trips["return"]).where(round_trips["return"] != 0.0, 0.0)
        assert (round_trips["cost"] * equity).sum() == pytest.approx(paid, abs=1e-4)


def test_holdings_add_up_to_the_ledger_of_every_account(
    acting: dict[str, pd.DataFrame], frames: dict[str, pd.DataFrame], bars: AlignedBars
) -> None:
    keys = ["account", "fold"]
    accounts = acting["accounts"].query("fold >= 0").groupby(keys)[["price_pnl", "dividends", "net_exposure"]]
    held = acting["holdings"].groupby(keys)
    np.testing.assert_allclose(held["gross"].sum(), accounts.sum()[["price_pnl", "dividends"]].sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(held["position"].sum(), accounts.mean()["net_exposure"], atol=1e-12)
    shaken = acting_bars()
    close, paid, split = hold(shaken.close)[:, 0], shaken.dividend[:, 0], shaken.split[:, 0]  # type: ignore[index]
    total = (close[1:] + np.nan_to_num(paid[1:])) * np.nan_to_num(split[1:], nan=1.0) / close[:-1] - 1.0
    of_acting = acting["holdings"].query("account == 'ensemble' and symbol == 'AAA'")["asset_return"]
    assert of_acting.tolist() == pytest.approx([total[FIRST:220].sum(), total[220:].sum()])
    own = frames["holdings"].query("account == 'ensemble' and symbol == 'BBB'").set_index("fold")
    assert own["bars"].tolist() == [70, 79]
    returns = bars.close[1:, 1] / bars.close[:-1, 1] - 1.0
    assert own["asset_return"].tolist() == pytest.approx([returns[FIRST:220].sum(), returns[220:].sum()])
    shares = frames["positions"].query("symbol == 'BBB'").groupby("fold")["position"].mean()
    assert own["position"].tolist() == pytest.approx(shares.tolist())
    assert (own["changed"] > 0).all()
    assert (own["changed"] < own["bars"]).all()


def test_a_stop_ends_a_trip_inside_its_bar(acting: dict[str, pd.DataFrame]) -> None:
    own = acting["trades"].query("account == 'ensemble'")
    assert (own["bars"] == 0).any()
    assert (own["exit_row"] >= own["entry_row"]).all()


def test_chunks_of_any_size_give_the_same_frames(
    acting: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "simulate_rows", partial(simulate_rows, chunk=13))
    bars = acting_bars()
    agents = agents_of(*(make_agent(fold, seed, EVERYTHING) for fold in (0, 1) for seed in (0, 1)))
    again = backtest_folds(bars, compute_features(bars, COLUMNS), FOLDS, agents, EVERYTHING, QUICK, 17520.0)
    for name in ("accounts", "positions", "actions"):
        pd.testing.assert_frame_equal(acting[name], again[name], check_exact=True)
    for name in ("masks", "trades"):  # sums, whose order differs
        pd.testing.assert_frame_equal(acting[name], again[name], check_exact=False, rtol=1e-9, atol=1e-7)


def test_baselines_know_no_drawdown_limit_but_pay(bars: AlignedBars, features: Floats) -> None:
    tight = replace(LIMITS, max_drawdown=0.001, drawdown_soft_limit=0.0)
    agents = agents_of(*(make_agent(fold, 0, tight) for fold in (0, 1)))
    frames = backtest_folds(bars, features, FOLDS, agents, tight, QUICK, 17520.0)
    free = backtest_folds(bars, features, FOLDS, agents, replace(tight, max_drawdown=None), QUICK, 17520.0)
    rules = list(RULES)
    for frame in ("accounts", "trades"):
        first, second = (found[frame][found[frame]["account"].isin(rules)] for found in (frames, free))
        pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    accounts = frames["accounts"]
    assert (accounts[accounts["account"].isin(rules)]["headroom"] == 1.0).all()
    assert (accounts[~accounts["account"].isin(rules)].groupby("account")["headroom"].min() < 0.5).all()
    assert (accounts.groupby("account")[["commission", "spread"]].sum() > 0.0).all(axis=None)


def test_baselines_earn_the_total_return_that_agents_earn(bars: AlignedBars) -> None:
    ex, paid = 190, 0.1  # prices do not move on that bar but for the dividend
    factor = np.where(np.arange(BARS) < ex, 1.0, 1.0 - paid)[:, None]
    before = bars.close[ex - 1 : ex]
    still = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")}
    for column in still.values():
        column[ex:] *= before / column[ex] * (1.0 - paid)
    dividend = np.zeros((BARS, 2))
    dividend[ex] = paid * before
    held = replace(bars, **still, dividend=dividend)
    frames = backtest_folds(held, compute_features(held, COLUMNS), FOLDS, AGENTS, LIMITS, QUICK, 17520.0)
    day = frames["accounts"].query("row == @ex - 1").set_index("account")
    assert day["dividends"].loc["buy_and_hold"] == pytest.approx(paid, rel=0.05)  # fully invested
    assert (day["dividends"].drop("random") != 0.0).sum() >= 4
    np.testing.assert_allclose(day["price_pnl"], -day["dividends"], atol=1e-12)
    np.testing.assert_allclose(day["return"], -(day["commission"] + day["spread"]), atol=1e-12)


def test_orders_that_are_late_are_filled_before_the_end(bars: AlignedBars, features: Floats) -> None:
    late = replace(LIMITS, max_drawdown=None, orders=replace(LIMITS.orders, latency_bars=2))
    agents = agents_of(*(make_agent(fold, 0, late) for fold in (0, 1)))
    frames = backtest_folds(bars, features, FOLDS, agents, late, QUICK, 17520.0)
    accounts = frames["accounts"].set_index(["account", "row"])
    for account in ("seed_0", "buy_and_hold"):
        assert accounts.loc[(account, BARS - 2), "gross_exposure"] == 0.0
        assert accounts.loc[(account, BARS - 3), "ordered"] == 0.0
    decided = frames["actions"].groupby(["account", "fold", "symbol"])["count"].sum()
    assert set(decided) == {70, 79 - 3}


def test_masks_tell_what_each_layer_forbids_in_each_regime(acting: dict[str, pd.DataFrame]) -> None:
    masks = acting["masks"]
    assert set(masks["account"]) == {"ensemble"}
    assert list(masks["layer"].unique()) == list(LAYERS)
    own = masks.query("layer == 'validity'")
    assert own.groupby("fold")["bars"].sum().tolist() == [70, 79]
    accounts = acting["accounts"].query("account == 'ensemble' and fold == 0")
    counted = own.query("fold == 0").set_index("regime")["bars"]
    assert counted.to_dict() == accounts["regime"].value_counts().to_dict()
    assert masks["forbidden"].between(0.0, 1.0).all()
    assert masks.groupby("layer")["forbidden"].max()["drawdown"] > 0.0


def test_combinatorial_folds_start_afresh_and_are_not_shaken(bars: AlignedBars, features: Floats) -> None:
    folds = [replace(FOLDS[0], train=(Segment(230, 290),)), FOLDS[1]]  # the second tests later rows
    frames = backtest_folds(bars, features, folds, AGENTS, LIMITS, BacktestParameters(), 17520.0)
    accounts = frames["accounts"]
    first = accounts[(accounts["account"] == "seed_0") & (accounts["row"] == 220)].iloc[0]
    assert first["equity"] == pytest.approx(1e6 * (1.0 + first["return"]))
    for name in ("momentum", "minimum_variance"):
        assert accounts[accounts["account"] == name]["row"].tolist() == list(range(FIRST, BARS - 1))
    assert frames["robustness"].empty
    assert list(frames["robustness"].columns)[:3] == ["kind", "value", "account"]


def test_folds_that_join_need_the_same_seeds(bars: AlignedBars, features: Floats) -> None:
    uneven = agents_of(make_agent(0, 0), make_agent(0, 1), make_agent(1, 0))
    with pytest.raises(ValueError, match=r"agents of the same seeds, had \{0: \[0, 1\], 1: \[0\]\}"):
        backtest_folds(bars, features, FOLDS, uneven, LIMITS, QUICK, 17520.0)


def test_targets_are_walked_beside_the_baselines(bars: AlignedBars, features: Floats, tmp_path: Path) -> None:
    timestamps = [f"{pd.Timestamp(bars.timestamps[row]).isoformat()}Z" for row in (FIRST, 230)]
    table = pd.DataFrame(
        {"timestamp": timestamps * 2, "symbol": ["AAA"] * 2 + ["BBB"] * 2, "target": [0.5, 0.0, 0.5, 0.0]}
    )
    table.to_csv(tmp_path / "targets.csv", index=False)
    given = replace(QUICK, targets=str(tmp_path / "targets.csv"))
    accounts = backtest_folds(bars, features, FOLDS, AGENTS, LIMITS, given, 17520.0)["accounts"].set_index("row")
    own, held = (accounts[accounts["account"] == name] for name in ("targets", "buy_and_hold"))
    assert own.loc[: FIRST + 79, "equity"].tolist() == held.loc[: FIRST + 79, "equity"].tolist()
    assert (own.loc[231:, "gross_exposure"] == 0.0).all()


def test_baselines_of_a_fold_start_afresh_in_each_test_segment_where_agents_do(
    bars: AlignedBars, features: Floats
) -> None:
    halves = (Segment(FIRST, 220), Segment(250, BARS - 1))
    folds = [
        Fold(0, (Segment(10, 110), Segment(222, 240)), (Segment(110, 149),), halves),
        Fold(1, (Segment(10, 150),), (Segment(150, 219),), (Segment(220, BARS - 1),)),
    ]
    accounts = backtest_folds(bars, features, folds, AGENTS, LIMITS, QUICK, 17520.0)["accounts"]
    for name in (*FITTED, "regime_rule", "ensemble", "seed_0", "random"):
        own = accounts[accounts["account"] == name]
        rows = own[own["fold"] == 0]["row"].tolist()
        assert rows == [*range(FIRST, 220), *range(250, BARS - 1)]
        assert own[own["fold"] == 1]["row"].tolist() == list(range(220, BARS - 1))
        for fold, row in ((0, FIRST), (0, 250), (1, 220)):
            first = own[(own["fold"] == fold) & (own["row"] == row)].iloc[0]
            assert first["equity"] == pytest.approx(1e6 * (1.0 + first["return"]))
        for fold, row in ((0, 219), (0, BARS - 2), (1, BARS - 2)):
            assert own[(own["fold"] == fold) & (own["row"] == row)]["gross_exposure"].item() == 0.0
    for name in ("buy_and_hold", "minimum_variance"):
        assert sorted(accounts[accounts["account"] == name]["row"]) == list(range(FIRST, BARS - 1))


def test_baselines_can_be_left_out(bars: AlignedBars, features: Floats) -> None:
    chosen = replace(QUICK, baselines=["risk_parity"])
    accounts = backtest_folds(bars, features, FOLDS, AGENTS, LIMITS, chosen, 17520.0)["accounts"]
    always = {"buy_and_hold", "equal_weight", "momentum", "random"}
    assert set(accounts["account"]) == {"ensemble", "seed_0", "seed_1", *always, "risk_parity"}
