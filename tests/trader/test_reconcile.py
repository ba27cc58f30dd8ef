from dataclasses import replace

import pytest

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.orders import Holdings, Lattice, Order, VenueOrder
from sentio_kedro.trader.reconcile import Difference, differences
from sentio_kedro.trader.state import OpenOrder, Rules, State

BAR = "2026-03-02T14:31:00Z"
RULES = Rules("t", ("A", "B"), 60.0, TraderLimits(), SendingParameters(), {"A": Lattice(step=1.0)}, simulated=False)
STATE = State(bar=BAR, decided=BAR, cash=1_000.0, equity=2_000.0, shares={"A": 10.0})
SAME = Holdings(1_000.0, {"A": 10.0})


def compare(holdings=SAME, orders=(), skew=0.0, state=STATE, rules=RULES):
    return differences(state, holdings, orders, skew, rules)


def test_equal_accounts_have_no_differences():
    assert compare() == []
    assert compare(Holdings(1_000.0, {"A": 10.0, "B": 0.0})) == []


def test_cash_may_differ_by_a_millionth_of_equity():
    assert compare(replace(SAME, cash=1_000.0019)) == []
    assert compare(replace(SAME, cash=1_000.0021)) == [Difference("cash", "account", 1_000.0, 1_000.0021)]


def test_a_position_may_differ_by_one_step_of_its_lattice():
    assert compare(Holdings(1_000.0, {"A": 11.0})) == []
    assert compare(Holdings(1_000.0, {"A": 12.0})) == [Difference("position", "A", 10.0, 12.0)]
    assert compare(Holdings(1_000.0, {})) == [Difference("position", "A", 10.0, 0.0)]
    assert compare(Holdings(1_000.0, {"A": 10.0, "B": 0.5})) == [Difference("position", "B", 0.0, 0.5)]


def test_numbers_that_are_none_differ():
    found = compare(Holdings(float("nan"), {"A": float("nan")}))
    assert [difference.what for difference in found] == ["cash", "position"]


def test_what_the_agents_do_not_trade_is_told_and_does_not_halt():
    order = VenueOrder("theirs", "9", "Z", 1.0, 0.0, "working")
    found = compare(Holdings(1_000.0, {"A": 10.0, "Z": 3.0}), [order])
    assert [(one.what, one.subject, one.halts) for one in found] == [
        ("position", "Z", False),
        ("order", "theirs", False),
    ]


def test_orders_of_others_in_a_traded_symbol_halt():
    order = VenueOrder("", "9", "A", 1.0, 0.0, "working")
    assert compare(orders=[order]) == [Difference("order", "9", "none", "A +1")]


def test_an_order_of_ours_that_the_journal_lacks_halts():
    key = order_id("t", BAR, "B", 1)
    found = compare(orders=[VenueOrder(key, "9", "B", -2.0, 0.0, "working")])
    assert found == [Difference("order", key, "none, but the id is ours", "B -2")]


def test_an_order_of_the_journal_is_no_difference_and_two_under_its_id_are():
    key = order_id("t", BAR, "A")
    state = replace(STATE, orders={key: OpenOrder(Order(key, BAR, "A", 5.0, 1.0), "working")})
    order = VenueOrder(key, "9", "A", 5.0, 0.0, "working")
    assert compare(orders=[order], state=state) == []
    twins = [order, replace(order, venue_id="10")]
    assert compare(orders=twins, state=state) == [Difference("order", key, "one", "2: A +5 and A +5")]


@pytest.mark.parametrize("skew", [2.5, -2.5])
def test_clocks_that_differ_are_told(skew):
    assert compare(skew=skew) == [Difference("clock", "venue", 0.0, skew, halts=False)]
    assert compare(skew=skew / 2) == []
