"""Facts of the market for the step: which bar each is of, costs, caps in units of the allocation, and the clock."""

from math import inf, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from tests.trading.exact import FAR

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import kelly_cap, market_facts
from sentio_kedro.trading.records import CHARGES, RULES
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

BARS = 6


def column(values: Any) -> torch.Tensor:
    """One asset's values ``[T, 1]``, or the same everywhere."""
    return torch.tensor(np.broadcast_to(np.asarray(values, float), (BARS,)).copy())[:, None]


def market(**changes: Any) -> MarketTensors:
    close = column([100.0, 101.0, 102.0, 103.0, 104.0, 105.0])
    given = {
        "features": torch.zeros(BARS, 1, 1),
        "open": close - 0.5,
        "close": close,
        "tradable": torch.ones(BARS, 1, dtype=torch.bool),
        "volatility": column(0.01),
        "posterior": torch.ones(BARS, 1),
        "daily_volatility": column(0.02),
        "daily_volume": column(10_000.0),
        "volume": column([10.0, 20.0, 30.0, 40.0, 50.0, 60.0]),
        "bar_volume": column([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    }
    return MarketTensors(**(given | changes))


def facts(setting: TradingParameters, start: int = 1, stop: int = BARS, **changes: Any) -> Any:
    return market_facts(market(**changes), start, stop, setting)


def test_what_is_known_at_the_close_is_of_the_row_and_what_happens_of_the_next() -> None:
    rows = facts(TradingParameters(), high=column(110.0), low=column(90.0), dividend=column(range(BARS))).facts[:, 0]
    assert rows.close.tolist() == [101.0, 102.0, 103.0, 104.0, 105.0]
    assert rows.open.tolist()[:4] == [101.5, 102.5, 103.5, 104.5]
    assert rows.next_close.tolist()[:4] == [102.0, 103.0, 104.0, 105.0]
    assert rows.dividend.tolist()[:4] == [2.0, 3.0, 4.0, 5.0]
    assert (rows.high == 110.0).all()
    assert (rows.low == 90.0).all()
    assert rows.fillable.tolist() == [True] * 4 + [False]  # nothing is filled after the last row
    plain = facts(TradingParameters()).facts[:, 0]
    assert plain.high.tolist()[:2] == [102.0, 103.0]
    assert plain.low.tolist()[:2] == [101.5, 102.5]


def test_participation_is_of_the_expected_volume_or_of_the_bars() -> None:
    split = column([1.0, 1.0, 2.0, 1.0, 1.0, 1.0])
    for source, expected in (("expected", [0.4, 0.3, 0.4, 0.5]), ("bar", [3.0, 4.0, 5.0, 6.0])):
        setting = TradingParameters(orders={"participation": 0.1, "participation_volume": source})  # type: ignore[arg-type]
        assert facts(setting, split=split).facts.max_shares[:4, 0].tolist() == pytest.approx(expected)
    assert (facts(TradingParameters()).facts.max_shares == inf).all()


def test_expected_participation_reads_nothing_of_the_fill_bar() -> None:
    setting = TradingParameters(orders={"participation": 0.1})  # type: ignore[arg-type]
    other = column([10.0, 20.0, 9999.0, 9999.0, 9999.0, 9999.0])
    first, second = (facts(setting, volume=volume).facts.max_shares[0] for volume in (column(10.0), other))
    assert first == second


def test_impact_follows_the_root_law_of_daily_volatility_and_volume() -> None:
    setting = TradingParameters(costs={"impact": 0.5})  # type: ignore[arg-type]
    assert facts(setting).facts.impact[0, 0] == pytest.approx(0.5 * 0.02 / sqrt(10_000.0))
    halved = facts(setting, split=column([1.0, 1.0, 4.0, 1.0, 1.0, 1.0])).facts.impact[0, 0]
    assert halved == pytest.approx(0.5 * 0.02 / sqrt(40_000.0))  # four times the shares
    assert not facts(TradingParameters()).facts.impact.any()


def test_spread_is_constant_or_half_of_the_fill_bars_with_a_minimum() -> None:
    spread = column([0.9, 0.9, 0.002, 1e-6, 0.9, 0.9])
    for source, expected in (("constant", [3e-4, 3e-4]), ("bars", [1e-3, 3e-4])):
        setting = TradingParameters(costs={"half_spread": source, "half_spread_bps": 3.0})  # type: ignore[arg-type]
        assert facts(setting, spread=spread).facts.half_spread[:2, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("assets", [1, 5, 50])
def test_caps_of_risk_are_in_units_of_the_allocation(assets: int) -> None:
    wide = {
        name: value.repeat(1, assets)
        for name, value in market()._asdict().items()
        if value is not None and name not in ("features", "posterior")
    }
    setting = TradingParameters(masks={"position_var": 0.03, "target_volatility": 0.01, "var_confidence": 0.99})  # type: ignore[arg-type]
    row = facts(setting, features=torch.zeros(BARS, assets, 1), tail=torch.full((BARS,), 2.5), **wide).facts[0]
    assert row.value_at_risk == pytest.approx(2.5 * 0.02)
    assert row.var_cap == pytest.approx(0.03 / 0.05 / assets)
    assert row.volatility_cap == pytest.approx(0.01 / 0.02 / assets)
    assert row.reward_unit == pytest.approx(0.01 * 0.5 / assets)
    own = TradingParameters(allocation=0.25, masks={"position_var": 0.03})  # type: ignore[arg-type]
    assert facts(own, tail=torch.full((BARS,), 2.5)).facts.var_cap[0, 0] == pytest.approx(0.25 * 0.6)


def test_without_a_measured_tail_the_quantile_is_the_normal_one() -> None:
    row = facts(TradingParameters(masks={"position_var": 0.03, "var_confidence": 0.975})).facts[0, 0]  # type: ignore[arg-type]
    assert row.value_at_risk == pytest.approx(1.959963984540054 * 0.02)


def test_liquidity_and_kelly_cap_by_their_formulas_and_are_off_by_default() -> None:
    returns = np.array([0.01, -0.02, 0.03, 0.01, 0.02, -0.01])
    setting = TradingParameters(masks={"liquidity": 0.1, "kelly_fraction": 0.5, "kelly_bars": 3})  # type: ignore[arg-type]
    rows = facts(setting, start=2, returns=column(returns)).facts[:, 0]
    assert rows.liquidity.tolist()[:2] == pytest.approx([0.1 * 10_000.0 * 102.0, 0.1 * 10_000.0 * 103.0])
    expected = [0.5 * abs(returns[t - 2 : t + 1].mean()) / returns[t - 2 : t + 1].var() for t in (2, 3, 4, 5)]
    assert rows.kelly_cap.tolist() == pytest.approx(expected)
    assert kelly_cap(returns[:, None], 0.5, 3)[2:, 0].tolist() == pytest.approx(expected)
    plain = facts(TradingParameters()).facts
    assert all((plain[name] == inf).all() for name in ("liquidity", "kelly_cap", "var_cap", "volatility_cap"))


def test_regimes_cap_size_by_exposure_and_growth_by_crisis_for_each_model() -> None:
    setting = TradingParameters(masks={"regime_exposure": [1.0, 0.8, 0.5], "crisis_probability": 0.7})  # type: ignore[arg-type]
    calm, wild = torch.tensor([[0.5, 0.5]] * BARS), torch.tensor([[0.2, 0.8]] * BARS)
    caps = market_facts(market(), 1, 3, setting, [calm, wild]).regimes
    assert caps.shape == (2, 2, 2)
    # of two states the last two entries count
    assert caps[0].tolist() == pytest.approx(np.array([[0.65, inf], [0.2 * 0.8 + 0.8 * 0.5, 0.0]]))
    with pytest.raises(ValueError, match=r"regime_exposure.* each of the 4 regimes, had 3"):
        market_facts(market(), 1, 3, setting, [torch.full((BARS, 4), 0.25)])


def test_the_clock_knows_time_sessions_and_quiet_minutes() -> None:
    setting = TradingParameters(calendar="XNYS", masks={"first_minutes": 30.0, "last_minutes": 60.0})  # type: ignore[arg-type]
    clock = facts(
        setting, start=0, elapsed=torch.tensor([0.0, 0.1, 0.1, 3.0, 0.1, 0.1]).double(),
        session=torch.tensor([0, 0, 0, 1, 1, 1]), correlation=torch.arange(BARS).double() / 10.0,
        minutes_since_open=torch.tensor([15.0, 200.0, 390.0, 15.0, 200.0, 390.0]).double(),
        minutes_to_close=torch.tensor([375.0, 190.0, 0.0, 375.0, 190.0, 0.0]).double(),
    ).clock  # fmt: skip
    assert clock.years.tolist()[:4] == pytest.approx([0.1 / 365.0, 0.1 / 365.0, 3.0 / 365.0, 0.1 / 365.0])
    assert clock.session_starts.tolist() == [False, False, True, False, False, False]
    assert clock.bars_to_session_end.tolist()[:5] == [1, 0, 2, 1, 0]
    assert clock.quiet.tolist() == [True, False, True, True, False, True]
    assert clock.correlation.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert (facts(TradingParameters()).clock.bars_to_session_end == FAR).all()


def test_a_delisting_between_sessions_closes_at_its_row_and_pays_costs() -> None:
    setting = TradingParameters(
        initial_cash=1000.0, calendar="XNYS", costs={"commission_bps": 10, "half_spread_bps": 0}
    )  # type: ignore[arg-type]
    gone = torch.tensor([False, False, False, True, False, False])[:, None]
    close = column([100.0, 100.0, 100.0, 100.0, 100.0, 100.0])
    alive = torch.tensor([True, True, True, False, False, False])[:, None]
    held = market_facts(
        market(
            close=close, open=close, tradable=alive, delisted=gone, session=torch.tensor([0, 0, 0, 1, 1, 2])
        ), 0, 5, setting,
    )  # fmt: skip
    accounts = open_accounts(1, 1, setting)
    policies = make_policies(np.array([TARGETS]), 1, 3, targets=np.ones((5, 1, 1)))
    ledger = simulate(held, accounts, policies, terms_of(setting, 1))
    assert ledger.fills.shares[:, 0, 0].tolist() == pytest.approx([10.0, 10.0, 0.0, 0.0, 0.0])
    assert ledger.fills.commission[:, 0, 0].tolist() == pytest.approx([1.0, 0.0, 1.0, 0.0, 0.0])


def test_terms_carry_every_parameter_in_its_unit() -> None:
    setting = TradingParameters(
        initial_cash=5_000.0, levels=[-1.0, -0.5, 0.0, 0.25, 1.0], gross_limit=1.5, net_limit=0.9, var_limit=0.05,
        var_model="sum", max_position=0.7, max_drawdown=0.2, drawdown_soft_limit=0.3, delisting_return=-0.3,
        calendar="XNYS",
        costs={"commission_bps": 2.0, "commission_per_share": 0.01, "min_commission": 1.5, "max_impact": 0.2},
        carry={"borrow_rate": 0.03, "financing_rate": 0.06, "interest_rate": 0.01},
        margin={"initial": 0.5, "maintenance": 0.25, "intrabar": True, "liquidation_fee": 0.005},
        orders={"rebalance_band": 0.1, "lot_size": 2.0, "min_notional": 10.0, "stop_loss": 0.1, "take_profit": 0.4,
                "flat_at_close": True},
        masks={"daily_loss": 0.02, "trades_per_day": 4, "min_holding_bars": 3, "overnight": False,
               "pattern_day_trader": True},
    )  # type: ignore[arg-type]  # fmt: skip
    terms = terms_of(setting, 3)
    assert dict(zip(RULES.names, terms.rules[0].item(), strict=True)) == {
        "gross_limit": 1.5, "net_limit": 0.9, "var_limit": 0.05, "max_position": 0.7, "max_drawdown": 0.2,
        "drawdown_soft_limit": 0.3, "max_impact": 0.2, "financing_rate": 0.06, "interest_rate": 0.01,
        "initial_margin": 0.5, "maintenance_margin": 0.25, "liquidation_fee": 0.005,
        "rebalance_band": 0.1, "stop_loss": 0.1, "take_profit": 0.4, "delisting_return": -0.3,
        "daily_loss": 0.02, "trades_per_day": 4.0, "min_holding_bars": 3.0, "var_is_sum": True, "intrabar": True,
        "flat_at_close": True, "overnight": False, "pattern_day_trader": True,
    }  # fmt: skip
    assert [dict(zip(CHARGES.names, charge.item(), strict=True)) for charge in terms.charges] == 3 * [
        {"commission": pytest.approx(2e-4), "commission_per_share": 0.01, "min_commission": 1.5, "borrow_rate": 0.03,
         "lot_size": 2.0, "min_notional": 10.0}
    ]  # fmt: skip
    assert terms.levels.tolist() == setting.levels
    assert terms.smaller.tolist() == [-0.5, 0.0, 0.0, 0.0, 0.25]
    assert terms.allocation.tolist() == [0.5] * 3
    off = dict(zip(RULES.names, terms_of(TradingParameters(), 1).rules[0].item(), strict=True))
    infinite = {name for name, value in off.items() if value == inf}
    assert infinite == {
        "net_limit", "var_limit", "max_drawdown", "stop_loss", "take_profit", "daily_loss", "trades_per_day",
    }  # fmt: skip
