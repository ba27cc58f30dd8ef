"""Sharpe ratio, drawdown and round trips have exact answers and agree with slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.trading.performance import (
    annual_return,
    annual_volatility,
    drawdown,
    drawdown_periods,
    maximum_drawdown,
    round_trips,
    sharpe_ratio,
)

RETURNS = [0.01, -0.02, 0.03, 0.0]


def test_sharpe_is_mean_over_sample_deviation_annualised() -> None:
    expected = np.mean(RETURNS) / np.std(RETURNS, ddof=1) * math.sqrt(252)
    assert sharpe_ratio(torch.tensor(RETURNS, dtype=torch.float64), 252.0).item() == pytest.approx(expected, rel=1e-12)


def test_flat_bars_lower_the_sharpe_ratio() -> None:
    returns = torch.tensor(RETURNS, dtype=torch.float64)
    with_flat = torch.cat([returns, torch.zeros(4).double()])
    assert 0.0 < sharpe_ratio(with_flat, 252.0) < sharpe_ratio(returns, 252.0)


@pytest.mark.parametrize("value", [0.0, 0.1, -0.003])
def test_sharpe_of_returns_that_do_not_vary_is_zero(value: float) -> None:
    returns = torch.full((1000,), value, dtype=torch.float64)
    returns[::2] += 4e-16 * value  # rounding is not variation
    assert sharpe_ratio(returns, 252.0).item() == 0.0


def test_figures_are_batched_over_every_dimension_after_time() -> None:
    returns = torch.from_numpy(np.random.default_rng(0).normal(0.0, 0.01, (50, 2, 3)))
    for measure in (lambda x: sharpe_ratio(x, 252.0), lambda x: annual_return(x, 252.0), maximum_drawdown):
        batched = measure(returns)
        assert batched.shape == (2, 3)
        assert batched[1, 2].item() == pytest.approx(measure(returns[:, 1, 2]).item(), abs=1e-12)


def test_annual_return_is_geometric() -> None:
    assert annual_return(torch.tensor([0.5, -0.5]).double(), 2.0).item() == pytest.approx(-0.25, abs=1e-12)


def test_a_lost_account_stays_lost() -> None:
    returns = torch.tensor([0.1, -1.2, 0.5]).double()
    assert annual_return(returns, 252.0).item() == -1.0
    assert drawdown(returns).tolist() == pytest.approx([0.0, 1.0, 1.0])


def test_annual_volatility_scales_with_the_root_of_the_periods() -> None:
    returns = torch.tensor(RETURNS, dtype=torch.float64)
    assert annual_volatility(returns, 4.0).item() == pytest.approx(2.0 * np.std(RETURNS, ddof=1), rel=1e-12)


def test_drawdown_counts_the_initial_capital_as_a_peak() -> None:
    assert drawdown(torch.tensor([-0.1, 0.0]).double()).tolist() == pytest.approx([0.1, 0.1])


def test_drawdown_is_measured_from_the_highest_equity_so_far() -> None:
    assert drawdown(torch.tensor([1.0, -0.5, 0.2, 1.0]).double()).tolist() == pytest.approx([0.0, 0.5, 0.4, 0.0])


def test_too_few_bars_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"`returns` must hold at least 2 bars"):
        sharpe_ratio(torch.zeros(1), 252.0)


def _trips(shares: list[float], prices: list[float], costs: list[float], mark: float) -> list[tuple[float, ...]]:
    found_round_trips = round_trips(
        torch.tensor(shares).double()[:, None, None],
        torch.tensor(prices).double()[:, None],
        torch.tensor(costs).double()[:, None, None],
        torch.tensor([mark]).double(),
    )
    columns = (
        found_round_trips.side,
        found_round_trips.entry_row,
        found_round_trips.exit_row,
        found_round_trips.pnl,
        found_round_trips.entry_notional,
        found_round_trips.still_open,
    )
    return [tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def test_a_round_trip_pays_both_of_its_fills() -> None:
    assert _trips([2.0, 2.0, 0.0], [10.0, 11.0, 12.0], [0.5, 0.0, 0.25], 99.0) == [(1, 0, 2, 3.25, 20.0, False)]


def test_adding_and_reducing_stays_one_trip() -> None:
    #  buy 1 at 10, buy 2 at 11, sell 2 at 13, sell 1 at 9: -10 - 22 + 26 + 9 = 3
    assert _trips([1.0, 3.0, 1.0, 0.0], [10.0, 11.0, 13.0, 9.0], [0.0] * 4, 1.0) == [(1, 0, 3, 3.0, 10.0, False)]


def test_a_flip_ends_one_trip_and_starts_another_and_its_cost_is_shared() -> None:
    # Long 1 from 10 to 14, then short 3 from 14 to 13. The flip trades 4 shares and costs 0.4.
    found_round_trips = _trips([1.0, -3.0, 0.0], [10.0, 14.0, 13.0], [0.0, 0.4, 0.0], 1.0)
    assert found_round_trips == [
        (1, 0, 1, pytest.approx(3.9), 10.0, False),
        (-1, 1, 2, pytest.approx(2.7), 42.0, False),
    ]


def test_an_open_position_is_closed_at_the_last_mark_and_flagged() -> None:
    assert _trips([0.0, -2.0, -2.0], [10.0, 10.0, 10.0], [0.0, 0.5, 0.0], 8.0) == [(-1, 1, 2, 3.5, 20.0, True)]


def test_a_missing_price_does_no_harm_where_nothing_is_traded() -> None:
    assert _trips([1.0, 1.0, 0.0], [10.0, math.nan, 12.0], [0.0] * 3, math.nan)[0][3] == 2.0


def test_rounding_dust_is_not_a_position() -> None:
    assert _trips([3.0, 1e-12, 2.0, 0.0], [10.0] * 4, [0.0] * 4, 10.0) == [
        (1, 0, 1, 0.0, 30.0, False),
        (1, 2, 3, 0.0, 20.0, False),
    ]


def test_no_trade_gives_no_trip() -> None:
    assert _trips([0.0, 0.0], [1.0, 1.0], [0.0, 0.0], 1.0) == []


def test_wrong_shapes_and_missing_prices_are_refused_together() -> None:
    shares = torch.ones(3, 1, 2)
    with pytest.raises(ValueError, match=r"`fill_price`.*`cost`.*`last_mark`"):
        round_trips(shares, torch.ones(2, 2), torch.ones(3, 2), torch.ones(3))
    with pytest.raises(ValueError, match=r"`fill_price` must be finite.*\[0, 0, 0\].*`last_mark`"):
        round_trips(shares, torch.full((3, 2), math.nan), torch.zeros(3, 1, 2), torch.full((2,), math.nan))


def _slow_round_trips(
    shares: list[float], prices: list[float], costs: list[float], mark: float
) -> list[list[float | bool]]:
    """Walk one account's asset share by share through its fills: the slow twin."""
    found_round_trips: list[list[float | bool]] = []
    position = 0.0
    for row, (target, price, cost) in enumerate(zip(shares, prices, costs, strict=True)):
        traded = target - position
        if position != 0.0 and (target == 0.0 or (target > 0.0) != (position > 0.0)):
            found_round_trips[-1][2], found_round_trips[-1][5] = row, False
            found_round_trips[-1][3] += position * price - cost * abs(position) / abs(traded)
            if target != 0.0:
                sign = 1 if target > 0.0 else -1
                pnl = -target * price - cost * abs(target) / abs(traded)
                found_round_trips.append([sign, row, -1, pnl, abs(target) * price, True])
        elif target != 0.0 and position == 0.0:
            found_round_trips.append(
                [1 if target > 0.0 else -1, row, -1, -target * price - cost, abs(target) * price, True]
            )
        elif target != 0.0:
            found_round_trips[-1][3] += -traded * price - cost
        position = target
    if position != 0.0:
        found_round_trips[-1][2] = len(shares) - 1
        found_round_trips[-1][3] += position * mark
    return found_round_trips


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 30), accounts=st.integers(1, 3), assets=st.integers(1, 3))
def test_round_trips_equal_the_slow_twin_and_add_up(seed: int, rows: int, accounts: int, assets: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.integers(-2, 3, (rows, accounts, assets)).astype(float)
    prices = rng.uniform(1.0, 2.0, (rows, accounts, assets))
    change = np.diff(shares, axis=0, prepend=0.0)
    costs = 0.01 * np.abs(change) * prices + 0.001 * (shares != 0.0)
    mark = rng.uniform(1.0, 2.0, (accounts, assets))
    found_round_trips = round_trips(*(torch.from_numpy(value) for value in (shares, prices, costs, mark)))
    expected = [
        [account, asset, *trip]
        for account in range(accounts)
        for asset in range(assets)
        for trip in _slow_round_trips(
            *(value[:, account, asset].tolist() for value in (shares, prices, costs)), mark[account, asset]
        )
    ]
    got = list(zip(*(column.tolist() for column in found_round_trips), strict=True))
    assert len(got) == len(expected)
    for left, right in zip(got, expected, strict=True):
        assert left == pytest.approx(tuple(right), abs=1e-9)
    profit = (-change * prices - costs).sum() + (shares[-1] * mark).sum()
    assert found_round_trips.pnl.sum().item() == pytest.approx(profit, abs=1e-9)


def test_drawdown_periods_start_at_the_first_loss_and_end_at_the_old_peak() -> None:
    first = torch.tensor([-0.1, -0.1, 0.5, 0.1, -0.2]).double()  # 0.9 0.81 1.215 1.3365 1.0692
    second = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1]).double()
    third = torch.tensor([0.0, -0.5, 1.0, -0.5, -0.5]).double()  # back at exactly 1, then down again
    periods = drawdown_periods(torch.stack([first, second, third], dim=1))
    assert periods.account.tolist() == [0, 0, 2, 2]
    assert periods.start_row.tolist() == [0, 4, 1, 3]
    assert periods.bottom_row.tolist() == [1, 4, 1, 4]
    assert periods.last_row.tolist() == [1, 4, 1, 4]
    assert periods.depth.tolist() == pytest.approx([0.19, 0.2, 0.5, 0.75])
    assert periods.recovered.tolist() == [True, False, True, False]


@given(st.lists(st.sampled_from([-0.2, -0.1, 0.0, 0.1, 0.25]), min_size=1, max_size=40))
def test_drawdown_periods_hold_every_row_below_a_peak_once(values: list[float]) -> None:
    returns = torch.tensor(values).double()
    periods, depth = drawdown_periods(returns), drawdown(returns)
    rows = [
        row
        for start, last in zip(periods.start_row.tolist(), periods.last_row.tolist(), strict=True)
        for row in range(start, last + 1)
    ]
    assert rows == (depth > 1e-12).nonzero().squeeze(1).tolist()
    assert periods.depth.tolist() == depth[periods.bottom_row].tolist()
    assert max([0.0, *periods.depth.tolist()]) == pytest.approx(maximum_drawdown(returns).item(), abs=1e-12)


def test_drawdown_periods_refuse_a_third_dimension() -> None:
    with pytest.raises(ValueError, match=r"`returns` must be \[T\] or \[T, N\]"):
        drawdown_periods(torch.zeros(3, 2, 2))
