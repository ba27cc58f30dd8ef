"""Baselines: exact schedules."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation.backtest import walk
from sentio_kedro.evaluation.backtest.baselines.schedules import (
    BUY_AND_HOLD,
    buy_and_hold,
    equal_weight,
    every,
    filling_rows,
    full_share,
    last_step,
    momentum,
    random_positions,
    restated,
    schedule_tables,
    scheduled,
    simulate_schedules,
    when_open,
)
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts, market_outline
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

TRADING = TradingParameters()
STAMPS = np.datetime64("2020-01-01T08:00", "ns") + np.arange(40) * np.timedelta64(8, "h")


def market(close: torch.Tensor, tradable: torch.Tensor | None = None) -> MarketTensors:
    everything = torch.ones_like(close, dtype=torch.bool) if tradable is None else tradable
    ones = torch.ones(len(close), 1, dtype=close.dtype)
    return MarketTensors(close[..., None], close, close, everything, torch.full_like(close, 0.01), ones)


def test_every_marks_the_first_row_of_each_period() -> None:
    due = every(STAMPS, 7.0)
    assert np.flatnonzero(due).tolist() == [0, 21]
    assert np.flatnonzero(every(STAMPS, 1.0)).tolist() == list(range(0, 40, 3))


def test_pieces_of_rows_have_the_facts_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    close = torch.exp(torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    tradable = torch.arange(50)[:, None] >= torch.tensor([3, 20])  # the second asset is listed late
    moves = market(close, tradable)._replace(session=torch.arange(50) // 7)
    context = BacktestContext(None, moves, None, {}, TRADING)  # type: ignore[arg-type]
    whole = market_facts(moves, 5, 45, TRADING)
    monkeypatch.setattr(walk, "CHUNK_ASSET_BARS", 2 * 7)
    for name in ("close", "unlisted", "fillable", "value_at_risk"):
        read = context.read_facts(Segment(5, 45), lambda facts, name=name: facts[name])  # type: ignore[misc]
        np.testing.assert_array_equal(read, whole.facts[name])
    assert whole.facts.unlisted.sum() == 15
    clock = market_facts(moves, 30, 37, TRADING, outline=market_outline(moves)).clock
    np.testing.assert_array_equal(clock, whole.clock[25:32])


def test_a_gap_does_not_shift_later_periods() -> None:
    timestamps = np.delete(STAMPS, [21, 22])
    assert np.flatnonzero(every(timestamps, 7.0)).tolist() == [0, 21]  # the first row after the period began


def test_buy_and_hold_buys_once_when_the_asset_first_trades() -> None:
    tradable = torch.ones(40, 2, dtype=torch.bool)
    tradable[:5, 1] = False
    targets = buy_and_hold(market(torch.ones(40, 2, dtype=torch.float64), tradable), 2, 30, TRADING)
    assert targets.shape == (28, 2)
    assert np.argwhere(~np.isnan(targets)).tolist() == [[0, 0], [3, 1]]  # row 5
    assert (targets[0, 0], targets[3, 1]) == (0.5, 0.5)


def test_equal_weight_trades_on_its_days_only() -> None:
    targets = equal_weight(STAMPS[:39], 2, BacktestParameters(), TRADING)
    assert np.flatnonzero(~np.isnan(targets[:, 0])).tolist() == [0, 21]
    assert targets[[0, 21]].tolist() == [[0.5, 0.5]] * 2


def test_equal_shares_keep_the_gross_limit_whatever_one_asset_may_have() -> None:
    assert full_share(TradingParameters(gross_limit=2.0), 4).tolist() == [0.5] * 4
    assert full_share(TradingParameters(allocation=0.1), 4).tolist() == [0.1] * 4
    assert full_share(TradingParameters(allocation=0.5), 4).tolist() == [0.25] * 4
    assert full_share(TradingParameters(allocation={"A": 0.5, "B": 0.0, "C": 0.25}), 3).tolist() == [0.5, 0.0, 0.25]


def test_momentum_follows_the_trend_at_its_target_volatility() -> None:
    close = torch.stack([torch.linspace(1, 2, 40), torch.linspace(2, 1, 40)], dim=1).double()
    parameters = BacktestParameters(momentum_bars=3, volatility_target=0.05)
    targets = momentum(market(close), STAMPS, 5, 39, parameters, TRADING, periods_per_year=100.0)
    daily = ~np.isnan(targets[:, 0])
    assert np.flatnonzero(daily).tolist() == np.flatnonzero(every(STAMPS[5:39], 1.0)).tolist()
    assert (targets[daily, 0] == 0.25).all()  # 5 % over 1 % x 10, of half the equity
    assert (targets[daily, 1] == -0.25).all()


def test_momentum_knows_no_later_price() -> None:
    close = torch.rand(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    changed = close.clone()
    changed[20:] *= 3
    parameters = BacktestParameters(momentum_bars=3)
    first, second = (momentum(market(x), STAMPS, 5, 39, parameters, TRADING, 100.0) for x in (close, changed))
    assert np.array_equal(first[:15], second[:15], equal_nan=True)  # rows 5 to 19


def test_momentum_counts_total_returns() -> None:
    close = torch.cat([torch.full((20, 1), 100.0), torch.full((20, 1), 25.0)]).double()  # a split of four, no loss
    parameters = BacktestParameters(momentum_bars=3, volatility_target=0.05)
    for growth, expected in ((0.001, 0.5), (0.0, 0.0)):
        known = market(close)._replace(returns=torch.full_like(close, growth))
        targets = momentum(known, STAMPS, 5, 39, parameters, TRADING, 100.0)
        assert (targets[~np.isnan(targets)] == expected).all()


def test_orders_that_are_not_due_are_missing() -> None:
    nan = np.nan
    assert np.array_equal(
        scheduled(0.5, np.array([True, False, True]), 2), [[0.5, 0.5], [nan, nan], [0.5, 0.5]], equal_nan=True
    )
    single = scheduled(np.array([[1.0, 2.0]]), np.array([[False, True], [True, False]]), 2)
    assert np.array_equal(single, [[nan, 2.0], [1.0, nan]], equal_nan=True)


def test_a_target_is_stated_again_until_the_participation_limit_lets_it_be_traded() -> None:
    nan = np.nan
    targets = np.array([[0.5, nan], [nan, 0.5], [nan, nan], [nan, nan], [-0.5, 0.5], [nan, nan], [0.0, nan]])
    capacity = np.array([[0.2, 0.3]] * 7)
    again = [[0.5, nan], [0.5, 0.5], [0.5, 0.5], [nan, nan], [-0.5, 0.5], [-0.5, nan], [0.0, nan]]
    assert np.array_equal(restated(targets, capacity), again, equal_nan=True)  # a new target ends the old one
    assert np.array_equal(restated(targets, np.full((7, 2), np.inf)), targets, equal_nan=True)


def daily_bars() -> AlignedBars:
    """A standing price of 100 and 1,000 shares a bar, one of 10 and 100 shares."""
    price, volume = np.tile([100.0, 10.0], (40, 1)), np.tile([1e3, 1e2], (40, 1))
    return AlignedBars(STAMPS, ("AAA", "BBB"), price, price, price, price, volume)


def test_what_the_volume_leaves_of_an_order_is_bought_later() -> None:
    limited = TradingParameters(preset="none", initial_cash=2_000.0, orders={"participation": 0.4})
    context = BacktestContext.of(daily_bars(), np.zeros((40, 2, 1)), {}, limited)
    span = Segment(5, 30)
    assert context.capacity(span)[0].tolist() == [40_000.0, 400.0]
    rules = {BUY_AND_HOLD: buy_and_hold(context.market, *span, limited), "flat": np.zeros((25, 2))}
    tables = schedule_tables(context, rules, span)
    assert tables.shape == (25, 2, 2)
    assert (tables[:, 1] == 0.0).all()
    position = np.concatenate([x.ledger.fills.position[:, 0] for x in simulate_schedules(context, span, rules)])
    assert position[:4].tolist() == [[0.5, pytest.approx(x)] for x in (0.2, 0.4, 0.5, 0.5)]
    assert schedule_tables(context, {}, span).shape == (0, 1, 2)


def test_the_last_order_is_filled_before_the_end() -> None:
    assert last_step(Segment(10, 15), 15, latency=0) == 4
    assert last_step(Segment(10, 15), 15, latency=2) == 2
    assert last_step(Segment(10, 15), 30, latency=0) == 19


def test_an_account_without_a_mask_is_rebalanced_however_near_it_is() -> None:
    trading = TradingParameters(preset="none")
    moves = market(100.0 * torch.tensor([1.1, 0.9, 1.1, 0.9, 1.1, 0.9]).double()[:, None].cumprod(0))
    accounts = open_accounts(2, 1, trading)
    accounts.account.guarded = [True, False]
    policies = make_policies(np.array([TARGETS] * 2), 1, 3, targets=np.full((5, 1, 1), 0.5))
    ledger = simulate(market_facts(moves, 0, 5, trading), accounts, policies, terms_of(trading, 1))
    assert ledger.fills.ordered[:, :, 0].T.tolist() == [[True, *[False] * 4], [True] * 5]


def test_random_positions_are_levels_of_the_allocation_drawn_from_their_seed() -> None:
    drawn = [random_positions(300, TRADING, 2, seed) for seed in (1, 1, 2)]
    assert set(drawn[0].ravel()) == {-0.5, 0.0, 0.5}
    assert all(80 < (drawn[0] == position).sum() / 2 < 120 for position in (-0.5, 0.0, 0.5))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    long_only = replace(TRADING, levels=[0.0, 1.0])
    assert set(random_positions(50, long_only, 2, 1).ravel()) == {0.0, 0.5}
    of_rule = replace(TRADING, unit="rule", levels=[0.0, 1.0])
    np.testing.assert_array_equal(random_positions(300, of_rule, 2, 1), drawn[0])


def test_an_order_for_a_closed_market_is_sent_when_it_opens_unless_another_comes_before() -> None:
    none = np.nan
    targets = np.array([[0.5, 0.5], [none, none], [0.2, 0.2], [none, none], [none, none]])
    fills = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [1, 1]], dtype=bool)
    sent = [[0.5, 0.5], [none, none], [0.2, none], [none, 0.2], [none, none]]
    assert np.array_equal(when_open(targets, fills), sent, equal_nan=True)
    assert np.array_equal(when_open(targets, np.zeros_like(fills)), targets, equal_nan=True)
    tradable = torch.tensor([[1, 0], [1, 1], [1, 1], [0, 1]], dtype=torch.bool)
    known = market(torch.ones(4, 2, dtype=torch.float64), tradable)
    assert filling_rows(known, 0, 3).tolist() == [[True, False], [True, True], [False, True]]


def test_momentum_annualises_each_symbol_by_its_own_bars() -> None:
    close = torch.exp(0.1 * torch.arange(41, dtype=torch.float64))[:, None].expand(-1, 2)
    present = torch.stack([torch.ones(41), torch.arange(41) % 4 == 0], dim=1).bool()  # ten of forty, and one more
    rules = {"A": {"calendar": "24/7"}, "B": {"calendar": "XNYS"}}
    parameters = BacktestParameters(momentum_bars=4, volatility_target=0.1)
    stamps = np.datetime64("2020-01-01T08:00", "ns") + np.arange(41) * np.timedelta64(8, "h")
    known = market(close)._replace(present=present)
    found = momentum(known, stamps, 4, 5, parameters, TradingParameters(symbols=rules), 400.0)[0]  # type: ignore[arg-type]
    assert found == pytest.approx([0.5 * 0.1 / (0.01 * 20.0), 0.5 * 0.1 / (0.01 * (400.0 * 11 / 41) ** 0.5)])
