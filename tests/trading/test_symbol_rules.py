"""Rules of single symbols in the step, the forecast rule's costs and the stress variants; exact small answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trading.exact import DAY, bar, holding, settle, shares, trading
from tests.trading.test_hand_calculations import stated

from sentio_kedro.agent.forecasting.market import trade_cost
from sentio_kedro.config import CarryParameters, CostParameters, OrderParameters, TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.tensors import market_tensors
from sentio_kedro.trading.accounts import for_symbols, open_accounts, terms_of, unaffordable
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

RULES = {
    "A": {"commission_bps": 10.0, "min_commission": 2.0, "lot_size": 10.0, "tick_size": 0.5, "borrow_rate": 0.365},
    "B": {"commission_per_share": 0.05, "half_spread_bps": 20.0, "min_notional": 400.0, "shortable": False},
}
SETTING = trading(
    costs=CostParameters(commission_bps=1.0, half_spread_bps=5.0),
    carry=CarryParameters(borrow_rate=0.73),
    orders=OrderParameters(rebalance_band=0.0),
    symbols=RULES,
)


def flat_market(trading: TradingParameters = SETTING, symbols: tuple[str, ...] = ("A", "B"), price: float = 50.0):
    prices = np.full((4, len(symbols)), price)
    stamps = np.datetime64("2024-01-02T21:00", "ns") + np.arange(4) * np.timedelta64(1, "D")
    bars = AlignedBars(stamps, symbols, prices, prices, prices, prices, prices)
    plain = TradingParameters(**{**vars(trading), "calendar": None})
    return market_tensors(bars, np.zeros((*prices.shape, 1)), np.ones((4, 1)), plain)


def traded(multiplier: float = 1.0, targets: tuple[float, float] = (0.49, 0.49)):
    """Ledger of the first fill of an account of 10,000 at 50, no masks."""
    market = flat_market()
    accounts = open_accounts(1, 2, TradingParameters(**{**vars(SETTING), "initial_cash": 10_000.0}))
    accounts.account.cost_multiplier = multiplier
    policies = make_policies(np.array([TARGETS]), 2, 3, targets=np.array([[targets]]))
    return simulate(market_facts(market, 0, 3, SETTING), accounts, policies, terms_of(SETTING, 2), np.array([[0]]))


def test_the_table_by_hand_has_the_equity_of_the_step() -> None:
    assert traded().total.equity[0, 0] == pytest.approx(stated("Two symbols"), abs=1e-9)


@pytest.mark.parametrize("multiplier", [1.0, 3.0])
def test_every_symbol_pays_by_its_own_rules_and_stress_multiplies_them(multiplier: float) -> None:
    fill = traded(multiplier).fills[0, 0]
    assert fill.shares.tolist() == pytest.approx([90.0, 98.0])  # lots of 10 of 98 shares; any number of B
    # A: 10 bps of 4,500. B: 1 bp of 4,900 and 0.05 a share
    assert fill.commission.tolist() == pytest.approx([4.5 * multiplier, (0.49 + 4.9) * multiplier])
    # A: half a tick, 0.25 of 50, beyond 5 bps. B: 20 bps
    assert fill.spread.tolist() == pytest.approx([22.5 * multiplier, 9.8 * multiplier])


def test_the_minimum_commission_and_the_smallest_order_are_the_symbol_s() -> None:
    fill = traded(targets=(0.05, 0.039)).fills[0, 0]
    assert fill.shares.tolist() == [10.0, 0.0]  # 390 of B is below its 400
    assert fill.commission.tolist() == pytest.approx([2.0, 0.0])


def test_what_is_not_shortable_is_not_sold_and_each_short_pays_its_own_fee() -> None:
    assert traded(targets=(-0.49, -0.49)).fills[0, 0].shares.tolist() == pytest.approx([-90.0, 0.0])
    short = holding([-10.0, -10.0], [100.0, 100.0], 3_000.0)
    fill, _ = settle(short, None, bar([100.0] * 2, [100.0] * 2, [100.0] * 2, years=3 * DAY), SETTING)
    assert shares(short) == [-10.0, -10.0]
    assert fill.borrow.tolist() == pytest.approx([1_000 * 0.365 * 3 * DAY, 1_000 * 0.73 * 3 * DAY])


def test_own_words_on_shorts_go_before_the_mask() -> None:
    rules = {"A": {"shortable": True}, "B": {}, "C": {"shortable": False}}
    banned = trading(symbols=rules, masks={"no_short": ["*"]})
    assert flat_market(banned, ("A", "B", "C")).shortable.tolist() == [True, False, False]
    allowed = trading(symbols=rules)
    assert flat_market(allowed, ("A", "B", "C")).shortable.tolist() == [True, True, False]


def test_the_forecast_rule_s_costs_are_the_symbols_own() -> None:
    cost = trade_cost(np.array([[50.0, 50.0]]), None, SETTING)
    assert cost[0].tolist() == pytest.approx([0.001 + 0.25 / 50, 0.0001 + 0.05 / 50 + 0.002])


def test_rules_of_some_symbols_are_completed_by_the_bars_and_unknown_ones_refused() -> None:
    given = trading(symbols={"B": RULES["B"]})
    whole = for_symbols(given, ("A", "B", "C"))
    assert terms_of(whole, 3).charges.min_notional.tolist() == [0.0, 400.0, 0.0]
    with pytest.raises(ValueError, match=r"`trading.symbols` must name symbols of the bars, .*'B' is meant by 'b'"):
        for_symbols(trading(symbols={"b": {}}), ("A", "B"))
    with pytest.raises(ValueError, match=r"`trading.symbols` must have rules for each of the 3 assets"):
        terms_of(given, 3)


def test_a_lot_that_no_account_can_buy_is_the_symbol_s() -> None:
    setting = trading(initial_cash=900.0, symbols={"A": {"lot_size": 10.0}, "B": {}})
    assert unaffordable(np.array([50.0, 50.0]), setting).tolist() == [True, False]


RULE = st.fixed_dictionaries(
    {
        "commission_bps": st.floats(0.0, 50.0),
        "commission_per_share": st.floats(0.0, 0.1),
        "min_commission": st.floats(0.0, 5.0),
        "half_spread_bps": st.floats(0.0, 50.0),
        "lot_size": st.sampled_from([0.01, 1.0, 7.0]),
        "min_notional": st.floats(0.01, 2_000.0),
        "borrow_rate": st.floats(0.0, 1.0),
    }
)
KEYS = {"costs": ("commission_bps", "commission_per_share", "min_commission", "half_spread_bps"),
        "orders": ("lot_size", "min_notional"), "carry": ("borrow_rate",)}  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(rules=st.tuples(RULE, RULE), asset=st.sampled_from([0, 1]), targets=st.lists(st.floats(-0.5, 0.5), min_size=3))
def test_a_symbol_trades_by_its_rules_as_if_they_were_the_general_keys(
    rules: tuple[dict[str, float], dict[str, float]], asset: int, targets: list[float]
) -> None:
    of_symbols = TradingParameters(initial_cash=10_000.0, symbols=dict(zip(("A", "B"), rules, strict=True)))  # type: ignore[arg-type]
    sections = {section: {name: rules[asset][name] for name in names} for section, names in KEYS.items()}
    general = TradingParameters(initial_cash=10_000.0, **sections)  # type: ignore[arg-type]
    market = flat_market()._replace(elapsed=torch.ones(4, dtype=torch.float64))
    table = np.full((3, 1, 2), np.nan)
    table[:, 0, asset] = targets[:3]
    policies = make_policies(np.array([TARGETS]), 2, 3, targets=table)
    one, other = (
        simulate(market_facts(market, 0, 3, setting), open_accounts(1, 2, setting), policies, terms_of(setting, 2))
        for setting in (of_symbols, general)
    )
    assert one.total.tobytes() == other.total.tobytes()
    assert one.fills.shares.tobytes() == other.fills.shares.tobytes()
