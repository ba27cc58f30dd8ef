"""What the view knows after events, by hand."""

import math

import pytest
from journals import Author

from sentio_kedro.trader import events
from sentio_kedro.trader.contract import Decision
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.store import Stored
from sentio_kedro.trader.orders import Fill, Order
from sentio_kedro.trader.watch.fold import fold
from sentio_kedro.trader.watch.view import EVENTS, View, empty_histogram

BUY = Order("b" * 32, "2026-03-02T10:00:00Z", "BTC", 2.0, 100.0)


def seen(*facts, view=None):
    before = view or View()
    return fold(before, [Stored(before.seq + place, fact) for place, fact in enumerate(facts, 1)])


def decided(stamp, equity, at=0.0, **given):
    options = {"orders": {}, "targets": {}, "actions": {}, "legal": {}, "closes": {"BTC": 100.0}, "shares": {},
               "cash": equity, "account": {}, **given}  # fmt: skip
    return events.decided(Decision(bar=stamp, equity=equity, **options), at)


def test_an_order_goes_its_way_and_leaves_no_trace():
    view = seen(events.intended(BUY, 1.0), events.sent(BUY.id, 1, 2.0))
    assert view.orders[BUY.id].progress == "sent"
    view = seen(events.unknown(BUY.id, 1, "504", 3.0), view=view)
    assert [order.symbol for order in view.unknown] == ["BTC"]
    view = seen(events.accepted(BUY.id, "v", 6.5), view=view)
    assert (view.unknown, view.orders[BUY.id].progress, view.ack_seconds.total) == ([], "accepted", 4.5)
    view = seen(events.filled(Fill("x", BUY.id, "BTC", 0.5, 101.0, 0.1, 7.0), 7.0), view=view)
    assert view.orders[BUY.id].filled == 0.5
    assert (view.shares, view.cash) == ({"BTC": 0.5}, -50.6)
    assert seen(events.filled(Fill("y", BUY.id, "BTC", 1.5, 101.0, 0.0, 8.0), 8.0), view=view).orders == {}
    assert seen(events.cancelled(BUY.id, "expired", 0.5, 8.0), view=view).orders == {}
    assert seen(events.adopted("a", 5.0, {"BTC": 3.0}, 8.0, "truth", 8.0), view=view).orders == {}


@pytest.mark.parametrize("end", [events.refused(BUY.id, "no", 3.0), events.dropped(BUY.id, "stale", 3.0),
                                 events.denied(BUY, "gross", 1.2, 1.0, 3.0)])  # fmt: skip
def test_an_order_that_never_was_is_not_open(end):
    assert seen(events.intended(BUY, 1.0), end).orders == {}


def test_slippage_is_against_the_decisions_close_and_costs_that_a_fill_tells_are_the_model():
    sell = Order("s" * 32, BUY.bar, "BTC", -2.0, 100.0)
    costs = {"commission": 0.5, "spread": 0.02, "impact": 0.04}
    view = seen(
        events.intended(BUY, 1.0), events.filled(Fill("x", BUY.id, "BTC", 2.0, 100.1, 0.0, 2.0), 2.0),
        events.intended(sell, 1.0), events.filled(Fill("y", sell.id, "BTC", -2.0, 100.0, 0.0, 2.0, costs), 2.0),
        events.filled(Fill("z", "", "BTC", 1.0, 90.0, 0.0, 2.0), 2.0),
    )  # fmt: skip
    assert [fill.realised for fill in view.fills] == pytest.approx([10.0, 3.0])
    assert [fill.model for fill in view.fills] == [None, pytest.approx(3.0)]
    assert view.fill_count == 3
    assert view.cash == pytest.approx(-200.2 + 200.0 - 0.56 - 90.0)


def test_drawdown_and_the_sessions_loss_follow_equity():
    view = seen(decided("2026-03-02T10:00:00Z", 100.0), decided("2026-03-02T11:00:00Z", 120.0),
                decided("2026-03-03T10:00:00Z", 108.0))  # fmt: skip
    assert view.drawdown == pytest.approx(0.1)
    assert view.session_loss == pytest.approx(0.1)  # from 120, the close of the session before
    assert (view.first_equity, view.peak_equity, view.decisions) == (100.0, 120.0, 3)
    assert seen(decided("2026-03-03T11:00:00Z", 130.0), view=view).session_loss == 0.0


def test_exposures_are_shares_at_the_newest_close():
    view = seen(decided("2026-03-02T10:00:00Z", 1_000.0, shares={"BTC": -3.0, "ETH": 0.0}))
    assert view.exposures == {"BTC": pytest.approx(-0.3)}
    assert seen(events.split("s", "BTC", 2.0, 1.0), view=view).shares == {"BTC": -6.0}


def test_what_the_feed_did_is_counted():
    facts = [Event("revised_bar", "1", 1.0), Event("late_bar", "1", 1.0), Event("gap", "1", 1.0, {"missing": 7})]
    view = seen(*facts)
    assert (view.revisions, view.late, view.missing) == (1, 1, 7)


def test_denials_in_a_row_end_with_an_order_that_is_sent():
    other = Order("o" * 32, BUY.bar, "ETH", 1.0, 10.0)
    view = seen(events.denied(BUY, "gross", 1.2, 1.0, 1.0), events.denied(other, "gross", 1.2, 1.0, 1.0))
    assert (view.denials, view.denials_in_a_row) == ({"gross": 2}, 2)
    assert seen(events.intended(other, 2.0), events.sent(other.id, 1, 2.0), view=view).denials_in_a_row == 0


def test_a_histogram_counts_each_time_once_in_the_first_bucket_that_holds_it():
    histogram = empty_histogram((1.0, 2.0))
    for seconds in (-1.0, 1.0, 1.5, 9.0):
        histogram = histogram.observed(seconds)
    assert (histogram.counts, histogram.total) == ((2, 1, 1), 11.5)


def test_memory_does_not_grow_with_the_journal():
    author, view = Author(trades=0.5), View()
    sizes = []
    for _ in range(3):
        view = seen(*(event for _ in range(700) for event in author.bar()), view=view)
        sizes.append([len(part) for part in (view.fills, view.lines, view.actions, view.curve, view.sent_at)])
    assert all(size <= bound for size, bound in zip(sizes[-1], (75, EVENTS, 500, 500, 20), strict=True))
    assert len(view.turnover) <= 1_441
    assert view.decisions == 2_100


def test_lines_say_what_a_person_wants_to_know_and_leave_out_what_is_expected():
    hand = events.turned("halted", "h", "looks odd", 9.0, by="ann@desk")
    view = seen(
        events.intended(BUY, 1.0), events.sent(BUY.id, 1, 1.0), events.unknown(BUY.id, 1, "504", 2.0),
        events.filled(Fill("x", BUY.id, "BTC", 2.0, 1_234.5, 0.0, 2.0), 2.0),
        events.denied(Order("c" * 32, BUY.bar, "ETH", -0.5, 10.0), "gross", 1.234567, 1.0, 3.0),
        decided("2026-03-02T10:00:00Z", 1.0), decided("2026-03-02T11:00:00Z", 1.0, orders={"BTC": -1_200.0}),
        events.reconciled("r", [], 8.0), hand, events.closed_bar(BUY.bar, 9.0),
    )  # fmt: skip
    assert [line.text for line in view.lines] == [
        "BTC +2: 504", "BTC +2 at 1,234.5", "ETH \N{MINUS SIGN}0.5: gross would be 1.235, may be 1",
        "BTC \N{MINUS SIGN}1,200", "venue and journal are equal", "looks odd (ann@desk)",
    ]  # fmt: skip


def test_the_length_of_a_bar_is_the_shortest_distance():
    bars = [Event("bar", stamp, 0.0, {"bars": {"BTC": {"close": 1.0}}}) for stamp in (
        "2026-03-02T10:00:00Z", "2026-03-02T10:30:00Z", "2026-03-02T12:30:00Z", "2026-03-02T13:00:00Z")]  # fmt: skip
    assert seen(*bars).bar_seconds == 1_800.0
    assert seen(events.started("1", 0.0, mode="live", bar_seconds=600.0)).bar_seconds == 600.0
    assert math.isclose(seen(*bars).bar_at, 1_772_456_400.0)
