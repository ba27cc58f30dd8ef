"""The table of `docs/trading.md`, to the cent."""

from pathlib import Path

import pytest
from tests.trading.exact import DAY, account, bar, bars, equity, holding, orders, settle, shares, trading, walk

from sentio_kedro.config import CarryParameters, CostParameters, MarginParameters

PAGE = (Path(__file__).parents[2] / "docs" / "trading.md").read_text()


def costs(commission: float, half_spread: float = 0.0) -> CostParameters:
    return CostParameters(commission_bps=commission, half_spread_bps=half_spread)


def stated(case: str) -> float:
    """Equity in the last column of a row."""
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {case} |"))
    return float(row.split("|")[-2].replace(",", ""))


def test_a_weekend_costs_three_nights_of_borrowing() -> None:
    setting = trading(carry=CarryParameters(borrow_rate=0.0365))
    short = holding([-100.0], [50.0], 15_000.0)
    fill, _ = settle(short, None, bar(50.0, 50.0, 49.0, years=3 * DAY), setting)
    assert fill.borrow == pytest.approx(1.50, abs=1e-9)
    assert fill.price_pnl == pytest.approx(100.0)
    assert equity(short) == pytest.approx(10_098.50, abs=1e-9)
    assert stated("Weekend borrow") == 10_098.50


def test_a_split_with_a_dividend_of_the_new_shares() -> None:
    long = holding([100.0], [80.0], 2000.0)
    fill, _ = settle(long, None, bar(80.0, 39.0, 40.0, split=2.0, dividend=0.5), trading())
    assert (fill.dividends, fill.price_pnl) == (100.0, 0.0)
    assert (shares(long), long.holdings.entry_price[0, 0]) == ([200.0], 40.0)
    assert long.account.cash[0] == 2100.0
    assert equity(long) == stated("Split with dividend") == 10_100.0


def test_a_gap_through_a_stop_is_sold_at_the_open() -> None:
    setting = trading(orders=orders(stop_loss=0.1), costs=costs(10.0))
    long = holding([100.0], [100.0])
    row = bar(100.0, 85.0, 95.0, low=82.0, high=96.0, half_spread=0.0005)
    fill, _ = settle(long, None, row, setting)
    assert (fill.exit_price, fill.price_pnl) == (85.0, -1500.0)
    assert (fill.commission, fill.spread) == (pytest.approx(8.50), pytest.approx(4.25))
    assert equity(long) == pytest.approx(8487.25, abs=1e-9)
    assert stated("Gap through a stop") == 8487.25


def test_a_liquidation_inside_a_bar_at_the_price_where_maintenance_is_reached() -> None:
    margin = MarginParameters(maintenance=0.0625, intrabar=True, liquidation_fee=0.005)
    setting = trading(gross_limit=4.0, margin=margin, costs=costs(5.0))
    long = holding([40.0], [100.0], -3000.0)
    fill, total = settle(long, 1.0, bar(100.0, 100.0, 98.0, low=75.0), setting)
    assert total.called
    assert fill.exit_price == pytest.approx(80.0, abs=1e-9)
    assert fill.price_pnl == pytest.approx(-800.0, abs=1e-9)
    assert fill.commission == pytest.approx(16.0 + 1.60, abs=1e-9)
    assert shares(long) == [0.0]
    assert equity(long) == pytest.approx(182.40, abs=1e-9)
    assert stated("Liquidation inside a bar") == 182.40


def test_an_order_is_filled_in_parts_until_the_position_is_within_the_band() -> None:
    setting = trading(orders=orders(participation=0.1, rebalance_band=0.25), costs=costs(10.0))
    buyer = account(10_000.0)
    steps = bars(
        bar(100.0, 100.0, 110.0, max_shares=40.0),
        bar(110.0, 110.0, 110.0, max_shares=40.0),
        bar(110.0, 110.0, 110.0, max_shares=40.0),
    )
    ledger = walk(buyer, [1.0, 1.0, 1.0], steps, setting)
    assert ledger.fills.filled_shares[:, 0, 0].tolist() == [40.0, 80.0, 80.0]
    assert ledger.fills.commission[:, 0, 0] == pytest.approx([4.0, 4.40, 0.0])
    assert ledger.total.equity[:, 0] == pytest.approx([10_396.0, 10_391.60, 10_391.60], abs=1e-9)
    assert stated("Order filled in parts") == 10_391.60


def test_a_delisting_pays_out_with_its_loss_and_its_costs() -> None:
    setting = trading(delisting_return=-0.3, costs=costs(10.0))
    long = holding([50.0], [20.0], 9000.0)
    row = bar(20.0, 20.0, 20.0, fillable=False, delisted=True, half_spread=0.002, impact=0.1)
    fill, _ = settle(long, 1.0, row, setting)
    assert (fill.exit_price, fill.price_pnl) == (pytest.approx(14.0), pytest.approx(-300.0))
    assert (fill.commission, fill.spread, fill.impact) == (pytest.approx(0.70), pytest.approx(1.40), 0.0)
    assert equity(long) == pytest.approx(9697.90, abs=1e-9)
    assert stated("Delisting") == 9697.90
