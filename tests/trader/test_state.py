"""The reducer's flows, fact by fact."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader import events as ev
from sentio_kedro.trader.contract import BarRow, Decision
from sentio_kedro.trader.events import RECORDED, Event
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.orders import CorporateAction, Fill, Lattice, VenueOrder
from sentio_kedro.trader.stamps import seconds_of, stamp_of
from sentio_kedro.trader.state import (
    NOT_ASKED,
    Action,
    Record,
    Rules,
    State,
    due,
    fold,
    state_from_json,
    state_to_json,
    step,
    unsendable,
)

BAR = 60.0
T = seconds_of("2026-01-02T15:30:00Z")
WIDE = TraderLimits(order_notional=1.0, symbol_exposure=1.0, gross=2.0)
REAL = Rules("t", ("AAA", "BBB"), BAR, WIDE, SendingParameters(decide_within=0.5), simulated=False)
SIMULATED = replace(REAL, simulated=True)


class Desk:
    """Keeps facts as the runtime does, and lists what is asked for."""

    def __init__(self, rules: Rules, *, cash: float = 10_000.0, shares: dict[str, float] | None = None) -> None:
        self.rules, self.state, self.journal, self.durable = rules, State(), list[Event](), list[str]()
        self.asked: deque[str] = deque()
        self.bar = 0
        self.give(ev.started("1", T))
        if not rules.simulated:
            self.give(ev.adopted("opening", cash, shares or {}, T, "opening", T))
        self.give(ev.restarted(T))
        if not rules.simulated:
            self.give(ev.compared([], T))
        self.asked.clear()

    def give(self, event: Event) -> list[str]:
        """Give an event; return the actions, the facts recorded among them."""
        if event.kind in RECORDED:
            self.journal.append(event)
        self.state, actions = step(self.state, event, self.rules)
        names: list[str] = []
        for action in actions:
            names += self._do(action)
        self.asked.extend(names)
        return names

    def _do(self, action: Action) -> list[str]:
        if not isinstance(action, Record):
            subject = getattr(action, "order", None)
            return [f"{type(action).__name__} {subject.symbol}" if subject else type(action).__name__]
        names = [fact.kind for fact in action.events]
        self.durable += names if action.durable else []
        return names + [name for fact in action.events for name in self.give(fact)]

    def new_bar(self, **closes: float) -> list[str]:
        self.bar += 1
        bars = {symbol: {"close": price} for symbol, price in ({"AAA": 100.0, "BBB": 50.0} | closes).items()}
        return self.give(ev.bar(BarRow(self.stamp, bars, "test", self.now()), self.now()))

    def decide(self, orders: dict[str, float], equity: float = 10_000.0, **more: Any) -> list[str]:
        cash, shares = more.pop("cash", self.state.cash), more.pop("shares", dict(self.state.shares))
        closes = more.pop("closes", dict(self.state.closes))
        decision = Decision(self.stamp, orders, {}, {}, {}, closes, equity, shares, cash, {"k": 0.1})
        return self.give(ev.decided(decision, self.now()))

    def open_bar(self, orders: dict[str, float]) -> list[str]:
        self.new_bar()
        return self.decide(orders)

    @property
    def stamp(self) -> str:
        return stamp_of(T + self.bar * BAR)

    def now(self, later: float = 0.0) -> float:
        return T + self.bar * BAR + later

    def id(self, symbol: str = "AAA", leg: int = 0) -> str:
        return order_id("t", self.stamp, symbol, leg)

    def post(self, symbol: str = "AAA", answer: str = "accepted", leg: int = 0) -> list[str]:
        id = self.id(symbol, leg)
        number = self.state.orders[id].posts + 1
        self.give(ev.sent(id, number, self.now()))
        if answer == "accepted":
            return self.give(ev.accepted(id, f"v{symbol}{leg}", self.now()))
        return self.give(getattr(ev, answer)(id, *([number] if answer == "unknown" else []), "why", self.now()))

    def fill(self, shares: float, symbol: str = "AAA", leg: int = 0, **more: Any) -> list[str]:
        fill = Fill(
            more.get("name", f"x{len(self.journal)}"),
            more.get("id", self.id(symbol, leg)),
            symbol,
            shares,
            100.0,
            0.5,
            self.now(1),
        )
        return self.give(ev.filled(fill, self.now(1)))

    def found(self, filled: float, status: str, symbol: str = "AAA", later: float = 1.0, **more: Any) -> list[str]:
        id = self.id(symbol)
        order = self.state.orders[id].order
        told = VenueOrder(id, "vAAA0", symbol, order.shares, filled, status)  # type: ignore[arg-type]
        return self.give(ev.found(replace(told, **more), self.now(later)))


def test_an_order_is_intended_on_disk_sent_once_and_its_fill_closes_the_bar() -> None:
    desk = Desk(REAL)
    assert desk.new_bar() == ["Decide"]
    assert desk.decide({"AAA": 10.0}) == ["intended", "Send AAA"]
    assert desk.durable == ["intended"]
    assert unsendable(desk.state, desk.id(), desk.now(), REAL) == ""
    assert desk.post() == ["closed_bar", "Find AAA"]
    assert unsendable(desk.state, desk.id(), desk.now(), REAL) == NOT_ASKED
    desk.fill(10.0)
    assert (desk.state.orders, desk.state.shares, desk.state.cash) == ({}, {"AAA": 10.0}, 8_999.5)
    assert desk.state.closed == desk.stamp


def test_the_same_decision_after_a_restart_makes_the_same_orders() -> None:
    desk = Desk(REAL)
    desk.new_bar()
    closes = {"AAA": 100.0, "BBB": 50.0}
    decision = Decision(desk.stamp, {"AAA": 10.0, "BBB": -4.0}, {}, {}, {}, closes, 10_000.0, {}, 0.0, {})
    facts = [*desk.journal, ev.decided(decision, desk.now())]
    again = Desk(REAL)
    again.bar, again.state = desk.bar, fold(facts, REAL)
    assert again.give(ev.restarted(desk.now())) == ["Compare"]
    assert again.give(ev.compared([], desk.now())) == ["reconciled", "intended", "intended", "Send AAA", "Send BBB"]
    assert {desk.id("AAA"), desk.id("BBB")} == set(again.state.orders)


def test_an_unknown_order_is_looked_up_three_times_then_sent_again_with_the_same_id() -> None:
    desk = Desk(REAL)
    desk.open_bar({"AAA": 10.0})
    assert desk.post(answer="unknown") == ["Find AAA"]
    assert desk.give(ev.absent(desk.id(), desk.now(0.1))) == []
    assert due(desk.state, REAL) == desk.now(5)
    assert desk.give(ev.tick(desk.now(5))) == ["Find AAA"]
    assert desk.give(ev.unreadable("order", desk.id(), desk.now(5))) == []
    assert desk.give(ev.tick(desk.now(10))) == ["Find AAA"]
    assert desk.give(ev.absent(desk.id(), desk.now(10))) == []
    assert desk.give(ev.tick(desk.now(15))) == ["Find AAA"]
    assert desk.give(ev.absent(desk.id(), desk.now(15))) == ["Send AAA"]
    assert unsendable(desk.state, desk.id(), desk.now(15), REAL) == ""
    assert desk.post() == ["closed_bar", "Find AAA"]
    assert desk.state.orders[desk.id()].posts == 2


def _absent_thrice(desk: Desk) -> list[str]:
    for later in (0.0, 5.0):
        desk.give(ev.absent(desk.id(), desk.now(later)))
    return desk.give(ev.absent(desk.id(), desk.now(10.0)))


def test_an_absent_order_is_dropped_if_late_halted_or_beyond_a_limit() -> None:
    late = Desk(replace(REAL, orders=SendingParameters(decide_within=0.1)))
    late.open_bar({"AAA": 10.0})
    late.post(answer="unknown")
    assert _absent_thrice(late) == ["dropped", "closed_bar"]
    halted = Desk(REAL)
    halted.open_bar({"AAA": 10.0})
    halted.post(answer="unknown")
    halted.give(ev.turned("halted", "p", "asked for", halted.now()))
    assert _absent_thrice(halted) == ["dropped", "closed_bar"]
    rapid = Desk(replace(REAL, limits=replace(WIDE, price_deviation=0.01)))
    rapid.open_bar({"AAA": 10.0})
    rapid.post(answer="unknown")
    rapid.state = replace(rapid.state, closes={"AAA": 120.0})
    assert _absent_thrice(rapid) == ["dropped", "closed_bar"]


def test_looks_in_quick_succession_are_no_proof_of_absence() -> None:
    desk = Desk(REAL)
    desk.open_bar({"AAA": 10.0})
    desk.post(answer="unknown")
    for later in (0.0, 0.1, 0.2, 0.3):
        assert desk.give(ev.absent(desk.id(), desk.now(later))) == []


def test_refused_is_over_and_changes_no_position() -> None:
    desk = Desk(REAL, shares={"AAA": 5.0})
    desk.open_bar({"AAA": 10.0})
    assert desk.post(answer="refused") == ["closed_bar"]
    assert (desk.state.orders, desk.state.shares, desk.state.cash) == ({}, {"AAA": 5.0}, 10_000.0)


def test_a_status_moves_no_shares_and_an_end_waits_for_its_fills() -> None:
    desk = Desk(REAL)
    desk.open_bar({"AAA": 10.0})
    desk.post()
    assert desk.found(4.0, "cancelled") == []
    assert desk.state.shares == {}
    assert due(desk.state, REAL) == desk.now(6)
    desk.fill(4.0)
    assert desk.found(4.0, "cancelled", later=6.0) == ["cancelled"]
    assert (desk.state.orders, desk.state.shares) == ({}, {"AAA": 4.0})


def test_a_new_bar_cancels_what_works_and_waits_for_its_end() -> None:
    desk = Desk(REAL)
    desk.open_bar({"AAA": 10.0})
    desk.post()
    desk.found(0.0, "working")
    old = desk.id()
    assert desk.new_bar() == ["Cancel AAA", "Find AAA"]
    told = VenueOrder(old, "vAAA0", "AAA", 10.0, 0.0, "cancelled")
    assert desk.give(ev.found(replace(told, status="working"), desk.now(1))) == []
    assert desk.give(ev.tick(desk.now(6))) == ["Cancel AAA", "Find AAA"]
    assert desk.give(ev.found(told, desk.now(6))) == ["cancelled", "Decide"]


def test_what_does_not_end_is_unknown_and_two_such_bars_reduce() -> None:
    desk = Desk(REAL)
    desk.open_bar({"AAA": 10.0})
    desk.post()
    for number, expected in enumerate(
        (
            ["alarm", "denied", "intended", "Send BBB"],
            ["alarm", "denied", "intended", "reducing", "dropped", "closed_bar"],
        )
    ):
        desk.new_bar()
        assert "Decide" not in desk.give(ev.tick(desk.now(9)))
        assert "Decide" in desk.give(ev.tick(desk.now(10)))
        assert desk.decide({"AAA": 1.0, "BBB": 1.0 + number}) == expected
        assert desk.state.unknown == {"AAA"}
        if desk.id("BBB") in desk.state.orders:
            desk.post("BBB", "refused")
    assert desk.state.mode == "reducing"


def test_an_unreadable_account_sends_nothing_until_it_is_compared() -> None:
    desk = Desk(REAL)
    desk.new_bar()
    assert desk.give(ev.unreadable("fills", "", desk.now())) == ["Compare"]
    assert desk.decide({"AAA": 10.0}) == []
    assert desk.give(ev.unreadable("account", "", desk.now(1))) == []
    assert desk.give(ev.tick(desk.now(6))) == ["Compare"]
    assert desk.give(ev.compared([], desk.now(6))) == ["reconciled", "intended", "Send AAA"]
    later = Desk(REAL)
    later.new_bar()
    later.give(ev.unreadable("fills", "", later.now()))
    later.decide({"AAA": 10.0})
    assert later.give(ev.tick(later.now(31)))[:2] == ["alarm", "denied"]
    assert later.state.unknown == {"AAA", "BBB"}
    assert later.state.shares == {}


def test_an_order_goes_through_zero_in_two_legs_where_it_must() -> None:
    desk = Desk(replace(REAL, crosses_zero=False), shares={"AAA": 10.0})
    assert desk.open_bar({"AAA": -25.0}) == ["intended", "Send AAA"]
    first = desk.state.orders[desk.id()].order
    assert (first.shares, first.closing) == (-10.0, True)
    desk.post()
    assert desk.fill(-4.0) == []
    assert desk.fill(-6.0) == ["intended", "Send AAA"]
    second = desk.state.orders[desk.id(leg=1)].order
    assert (second.shares, second.leg, second.closing) == (-15.0, 1, False)
    desk.post(leg=1)
    desk.fill(-15.0, leg=1)
    assert (desk.state.shares, desk.state.orders) == ({"AAA": -15.0}, {})


def test_no_second_leg_after_an_unfilled_first() -> None:
    desk = Desk(replace(REAL, crosses_zero=False), shares={"AAA": 10.0})
    desk.open_bar({"AAA": -25.0})
    desk.post()
    desk.fill(-4.0)
    assert desk.found(-4.0, "expired") == ["cancelled"]
    assert desk.state.shares == {"AAA": 6.0}


def test_quantities_floor_onto_the_lattice_and_closing_orders_are_exact() -> None:
    lattices = {"AAA": Lattice(step=0.1, least=0.5, least_notional=60.0), "BBB": Lattice(shortable=False)}
    desk = Desk(replace(REAL, lattices=lattices), shares={"AAA": 2.345})
    assert desk.open_bar({"AAA": 1.29, "BBB": -1.0}) == ["denied", "intended", "Send AAA"]
    assert desk.state.orders[desk.id()].order.shares == pytest.approx(1.2, abs=1e-12)
    small = Desk(replace(REAL, lattices=lattices), shares={"AAA": 2.345})
    assert small.open_bar({"AAA": 0.59}) == ["closed_bar"]
    closing = Desk(replace(REAL, lattices=lattices), shares={"AAA": 2.345})
    closing.open_bar({"AAA": -2.345})
    assert closing.state.orders[closing.id()].order.shares == -2.345


def test_halted_sends_nothing_and_cancels_what_works() -> None:
    desk = Desk(REAL, shares={"BBB": 5.0})
    desk.open_bar({"AAA": 10.0, "BBB": -5.0})
    desk.post("BBB")
    assert desk.give(ev.turned("halted", "p", "asked for", desk.now())) == [
        "dropped",
        "closed_bar",
        "Cancel BBB",
        "Find BBB",
    ]
    assert unsendable(desk.state, desk.id(), desk.now(), REAL) == NOT_ASKED
    desk.found(0.0, "cancelled", "BBB", venue_id="vBBB0")
    assert desk.open_bar({"AAA": 1.0, "BBB": -1.0}) == ["denied", "denied", "closed_bar"]
    desk.give(ev.turned("reducing", "q", "asked for", desk.now()))
    assert desk.state.mode == "halted"
    assert desk.give(ev.turned("active", "r", "looked", desk.now())) == ["Compare"]
    assert desk.state.mode == "active"


def test_reducing_only_shrinks() -> None:
    desk = Desk(REAL, shares={"BBB": 5.0})
    desk.give(ev.turned("reducing", "p", "asked for", desk.now()))
    assert desk.open_bar({"AAA": 1.0, "BBB": -5.0}) == ["intended", "denied", "Send BBB"]
    other = Desk(REAL, shares={"BBB": 5.0})
    other.give(ev.turned("reducing", "p", "asked for", other.now()))
    assert other.open_bar({"BBB": -6.0}) == ["denied", "closed_bar"]


def test_losses_reduce_and_a_resume_counts_anew() -> None:
    desk = Desk(REAL)
    desk.open_bar({})
    desk.new_bar()
    assert desk.decide({"AAA": 1.0}, equity=9_700.0) == ["reducing", "denied", "closed_bar"]
    assert desk.state.reason == "daily_loss is 0.0300, may be 0.02"
    desk.give(ev.turned("active", "r", "looked", desk.now()))
    desk.give(ev.compared([], desk.now()))
    desk.new_bar()
    assert desk.decide({"AAA": 1.0}, equity=9_700.0) == ["intended", "Send AAA"]


def test_denials_in_a_row_halt_before_anything_is_sent() -> None:
    desk = Desk(replace(REAL, limits=TraderLimits(max_denials=2, order_notional=0.001)))
    assert desk.open_bar({"AAA": 5.0, "BBB": 5.0}) == ["denied", "denied", "halted", "closed_bar"]


def test_an_order_that_is_no_number_is_denied_and_kept_as_null() -> None:
    desk = Desk(replace(REAL, lattices={"AAA": Lattice(step=1.0)}))
    assert desk.open_bar({"AAA": float("nan"), "BBB": float("inf")}) == ["denied", "denied", "closed_bar"]
    bodies = [fact.body for fact in desk.journal if fact.kind in ("decided", "denied")]
    assert json.dumps(bodies, allow_nan=False)
    assert [(body["limit"], body["shares"], body["price"]) for body in bodies[1:]] == [
        ("number", None, 100.0),
        ("number", None, 50.0),
    ]
    assert bodies[0]["orders"] == {"AAA": None, "BBB": None}


def test_agents_that_see_another_price_than_the_feed_are_denied() -> None:
    desk = Desk(REAL)
    desk.new_bar(AAA=106.0)
    assert desk.decide({"AAA": 1.0, "BBB": 1.0}, closes={"AAA": 100.0, "BBB": 50.0}) == [
        "denied",
        "intended",
        "Send BBB",
    ]
    assert [fact.body["limit"] for fact in desk.journal if fact.kind == "denied"] == ["price_deviation"]


def test_a_gap_reduces() -> None:
    desk = Desk(REAL)
    assert desk.give(Event("gap", "g", desk.now(), {"missed": 9})) == ["reducing"]
    assert desk.state.reason == "the feed missed 9 bars, more than `feed.max_gap_bars`"


def test_differences_halt_with_the_table_until_the_venue_is_adopted() -> None:
    desk = Desk(REAL)
    desk.give(ev.reconnected(desk.now()))
    row = {"what": "position", "subject": "AAA", "journal": 0.0, "venue": 3.0, "halts": True}
    assert desk.give(ev.compared([row], desk.now())) == ["reconciled", "halted"]
    assert desk.state.reason == "journal and venue differ: position AAA: 0.0, venue 3.0"
    assert desk.give(ev.adopted("a", 9_000.0, {"AAA": 3.0}, desk.now(), "mine", desk.now())) == ["Compare"]
    assert (desk.state.shares, desk.state.cash, desk.state.mode) == ({"AAA": 3.0}, 9_000.0, "halted")
    desk.give(ev.filled(Fill("old", "", "AAA", 3.0, 100.0, 0.0, desk.now() - 1), desk.now()))
    assert desk.state.shares == {"AAA": 3.0}
    told = {**row, "halts": False}
    assert desk.give(ev.compared([told], desk.now())) == ["reconciled"]


@pytest.mark.parametrize("id", ["", "0" * 32])
def test_a_fill_of_no_open_order_halts_and_counts(id: str) -> None:
    desk = Desk(REAL)
    assert desk.fill(3.0, id=id) == ["halted"]
    assert desk.state.shares == {"AAA": 3.0}


def test_too_much_filled_two_orders_under_one_id_and_wrong_reports_halt() -> None:
    desk = Desk(REAL)
    desk.open_bar({"AAA": 10.0})
    desk.post()
    assert desk.fill(11.0)[0] == "halted"
    assert desk.state.shares == {"AAA": 11.0}
    for wrong in ({"venue_id": "v2"}, {"shares": 9.0}, {"shares": -10.0}):
        twice = Desk(REAL)
        twice.open_bar({"AAA": 10.0})
        twice.post()
        assert twice.found(0.0, "working", **wrong) == ["halted", "Cancel AAA", "Find AAA"]
    more = Desk(REAL)
    more.open_bar({"AAA": 10.0})
    more.post()
    assert more.found(12.0, "filled")[0] == "halted"
    assert more.state.shares == {}


def test_a_late_answer_after_the_fill_changes_nothing() -> None:
    desk = Desk(REAL)
    desk.open_bar({"AAA": 10.0})
    desk.give(ev.sent(desk.id(), 1, desk.now()))
    desk.fill(10.0)
    assert desk.give(ev.accepted(desk.id(), "v1", desk.now(2))) == []
    assert desk.state.orders == {}
    assert desk.state.shares == {"AAA": 10.0}


def test_splits_and_dividends_move_the_account() -> None:
    desk = Desk(REAL, shares={"AAA": 10.0})
    desk.new_bar()
    desk.give(ev.booked(CorporateAction("c1", "split", "AAA", 0.0, 2.0, desk.now()), desk.now()))
    desk.give(ev.booked(CorporateAction("c2", "dividend", "AAA", 7.0, 1.0, desk.now()), desk.now()))
    assert (desk.state.shares, desk.state.cash) == ({"AAA": 20.0}, 10_007.0)
    desk.give(ev.booked(CorporateAction("c0", "dividend", "AAA", 7.0, 1.0, T - 9), desk.now()))
    assert desk.state.cash == 10_007.0


def test_simulated_orders_work_until_the_next_decision_and_the_rest_lapses() -> None:
    desk = Desk(SIMULATED)
    assert desk.new_bar() == ["Decide"]
    assert desk.decide({"AAA": 10.0, "BBB": 5.0}, cash=10_000.0) == ["intended", "intended", "Send AAA", "Send BBB"]
    desk.post()
    assert desk.post("BBB") == ["closed_bar"]
    assert desk.state.sent == {desk.id(), desk.id("BBB")}
    first = desk.id()
    assert desk.new_bar() == ["Decide"]
    desk.give(ev.filled(Fill("f", first, "AAA", 10.0, 100.0, 0.0, desk.now(), {"commission": 1.0}), desk.now()))
    assert desk.state.cash == 8_999.0
    assert desk.decide({}, cash=8_999.0, shares={"AAA": 10.0}) == ["cancelled", "closed_bar"]
    assert (desk.state.orders, desk.state.sent, desk.state.mode) == ({}, frozenset(), "active")


def test_a_simulated_account_that_fills_do_not_explain_raises_an_alarm() -> None:
    desk = Desk(SIMULATED)
    desk.new_bar()
    desk.decide({}, cash=10_000.0)
    desk.new_bar()
    assert desk.decide({}, cash=9_000.0)[0] == "alarm"
    assert desk.journal[-1].kind != "halted"


def test_a_simulated_restart_looks_up_before_it_decides() -> None:
    desk = Desk(SIMULATED)
    desk.open_bar({"AAA": 10.0})
    desk.new_bar()
    again = Desk(SIMULATED)
    again.bar, again.state = desk.bar, fold(desk.journal, SIMULATED)
    assert again.give(ev.restarted(desk.now())) == ["Find AAA"]
    old = order_id("t", stamp_of(T + BAR), "AAA")
    assert again.give(ev.found(VenueOrder(old, old, "AAA", 10.0, 0.0, "working"), desk.now())) == [
        "accepted",
        "closed_bar",
        "Decide",
    ]
    assert again.state.sent == {old}


def test_the_state_survives_json_to_the_last_bit() -> None:
    desk = Desk(REAL, shares={"AAA": 0.1 + 0.2})
    desk.open_bar({"AAA": 10.0, "BBB": 3.3})
    desk.post(answer="unknown")
    desk.fill(1.1)
    assert state_from_json(json.loads(json.dumps(state_to_json(desk.state)))) == desk.state


def test_a_duplicate_or_older_bar_is_nothing() -> None:
    desk = Desk(REAL)
    desk.open_bar({})
    before = desk.state
    assert desk.give(ev.bar(BarRow(desk.stamp, {"AAA": {"close": 1.0}}, "test", 0.0), desk.now())) == []
    assert desk.state == before


def test_a_new_session_is_compared_before_it_is_decided() -> None:
    desk = Desk(REAL)
    desk.open_bar({})
    desk.bar += 24 * 60
    assert desk.new_bar() == ["Compare"]
    assert desk.give(ev.compared([], desk.now())) == ["reconciled", "Decide"]
