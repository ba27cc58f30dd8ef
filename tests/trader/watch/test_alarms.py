"""Clean journals raise no alarm; each planted fault raises its own, once, and it is resolved."""

import math

import numpy as np
import pytest
from journals import Author

from sentio_kedro.config.live.alarms import ALARMS, COLLAPSE_BARS
from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader import events
from sentio_kedro.trader.journal.store import Stored
from sentio_kedro.trader.orders import Order
from sentio_kedro.trader.watch.alarms.evaluate import KEEP_SECONDS, Standing, evaluate, standing_of
from sentio_kedro.trader.watch.band import band_of
from sentio_kedro.trader.watch.drift import Reference
from sentio_kedro.trader.watch.fold import fold
from sentio_kedro.trader.watch.metrics import HELP, Sample, Surroundings, samples
from sentio_kedro.trader.watch.view import View

LIMITS = {"turnover_per_day": 90.0}
BAND = band_of(np.random.default_rng(0).normal(0.0, 4e-5, 1_000), mean_block=5.0)
AROUND = Surroundings(TraderParameters(name="paper", limits=LIMITS), cost_bps=2.0, band=BAND)


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_journal_raises_nothing_but_the_watchdog(seed):
    author, view, standing, told = Author(seed=seed, trades=0.4, simulated=bool(seed % 2)), View(), Standing(), []
    groups = [author.start(), *(author.bar() for _ in range(230))]
    for group in groups:
        view = fold(view, [Stored(view.seq + place, event) for place, event in enumerate(group, 1)])
        for late in (0.1, 58.0):  # just closed, and before the next bar comes
            now = group[-1].at + late
            standing, messages = evaluate(standing, samples(view, now, AROUND), now, view.seq)
            told += messages
    assert [(message.kind, message.name) for message in told] == [("raised", "WatchdogAlive")]
    assert len(view.judged_fills) == 75


def unknown_order(at):
    order = Order("a" * 32, "2026-03-02T00:30:00Z", "BTC", 1.0, 100.0)
    return order, [events.intended(order, at), events.sent(order.id, 1, at), events.unknown(order.id, 1, "504", at)]


def test_a_dead_trader_is_told_once_and_resolved_when_it_closes_a_bar(scene):
    one = scene()
    one.start()
    one.bars(20)
    one.seconds(140.0)  # 142 s after the last closed bar
    assert one.names == [("raised", "StaleBars")]
    one.seconds(30.0)
    assert one.names == [("raised", "StaleBars"), ("raised", "TraderDown")]
    one.seconds(3_600.0, step=60.0)
    assert len(one.names) == 2
    one.author.number += 63
    one.write(*one.author.start())
    one.bars(1)
    assert len(one.names) == 2
    one.bars(6)
    assert one.names[2:] == [("resolved", "TraderDown"), ("resolved", "StaleBars")]


def test_a_trader_that_hangs_while_bars_come_is_told_as_dead_and_not_as_a_feed_that_is_stale(scene):
    one = scene()
    one.start()
    one.bars(5)
    one.bars(4, closed=False)
    assert one.names == [("raised", "TraderDown")]


def test_a_trader_that_starts_again_and_again_without_closing_a_bar_is_dead(scene):
    one = scene()
    one.start()
    one.bars(5)
    for number in range(20):
        one.write(events.started(f"again-{number}", one.clock.now(), mode="paper"))
        one.seconds(10.0)
    assert ("raised", "TraderDown") in one.names


def test_a_trader_that_was_just_started_after_a_day_is_not_dead(scene):
    one = scene()
    one.start()
    one.bars(5)
    one.author.number += 1_440
    one.clock.set(one.author.end)
    one.write(*one.author.start())
    one.bars(3)
    # The day's silence itself was one death, told from the journal though nobody looked.
    assert [name for kind, name in one.names if kind == "raised"].count("TraderDown") == 1


FAULTS = {
    "Halted": (lambda at: [events.turned("halted", "1", "a person", at)],
               lambda at: [events.turned("active", "2", "looked", at)]),
    "ReconcileMismatch": (
        lambda at: [events.reconciled("r1", [{"what": "cash", "subject": "x", "journal": 1.0, "venue": 2.0}], at)],
        lambda at: [events.reconciled("r2", [], at)],
    ),
    "UnknownOrders": (lambda at: unknown_order(at)[1], lambda at: [events.dropped("a" * 32, "never there", at)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fact_is_told_once_within_two_bars_and_resolved(scene, name):
    plant, mend = FAULTS[name]
    one = scene()
    one.start()
    one.bars(10)
    one.write(*plant(one.clock.now()))
    one.bars(2)
    assert one.names == [("raised", name)]
    one.bars(6)
    one.restart()
    one.bars(2)
    assert one.names == [("raised", name)]
    one.write(*mend(one.clock.now()))
    one.bars(math.ceil(KEEP_SECONDS / 60.0) + 1)
    assert one.names == [("raised", name), ("resolved", name)]


def test_a_clock_that_is_wrong_is_told_once_while_the_trader_says_so_after_each_bar(scene):
    one = scene()
    one.start()
    one.bars(3)
    for _ in range(8):
        one.write(events.alarm("clock_skew", one.watch.seen.view.closed, one.clock.now(), seconds=-2.5))
        one.look(one.clock.now())
        one.bars(1)
    assert one.names == [("raised", "ClockSkew")]
    one.bars(7)
    assert one.names == [("raised", "ClockSkew"), ("resolved", "ClockSkew")]


def test_an_order_that_is_answered_within_a_minute_is_no_alarm(scene):
    one = scene()
    one.start()
    one.bars(3)
    order, facts = unknown_order(one.clock.now())
    one.write(*facts)
    one.seconds(40.0)
    one.write(events.accepted(order.id, "v1", one.clock.now()))
    one.bars(3)
    assert one.names == []


def test_what_only_is_told_of_other_symbols_is_no_mismatch(scene):
    one = scene()
    one.start()
    row = {"what": "position", "subject": "GOLD", "journal": 0.0, "venue": 5.0, "halts": False}
    one.write(events.reconciled("r5", [row], one.clock.now()))
    one.bars(2)
    assert one.names == []


def test_a_loss_is_told_near_its_limit_and_below_the_band(scene):
    one = scene(around=AROUND)
    one.start()
    one.bars(60)
    one.author.cash -= 1_700.0  # 1.7 % of 2 % a session, and of 10 % in all
    one.bars(2)
    assert set(one.names) == {("raised", "DrawdownNearLimit"), ("raised", "BelowBand")}
    told = next(message for message in one.told.messages if message.name == "DrawdownNearLimit")
    assert "(limit daily_loss)" in told.text
    one.bars(5)
    assert len(one.names) == 2


def test_slippage_above_the_model_is_told_once_enough_fills_say_so(scene):
    one = scene(author=Author(slip=3e-4, trades=0.5))
    one.write(*one.author.start(), *(event for _ in range(118) for event in one.author.bar()))
    one.bars(2)
    assert len(one.watch.seen.view.judged_fills) == 75
    assert one.names == [("raised", "SlippageAboveModel")]


def test_actions_that_collapse_are_told_after_the_full_window(scene):
    one = scene(author=Author(level=1))
    one.write(*one.author.start(), *(event for _ in range(COLLAPSE_BARS - 1) for event in one.author.bar()))
    one.look(one.author.end + 2.0)
    assert one.names == []
    one.bars(1)
    assert one.names == [("raised", "ActionCollapse")]


def test_actions_that_were_all_the_same_in_the_backtest_have_not_collapsed(scene):
    one = scene(author=Author(level=1))
    one.around = Surroundings(one.around.parameters, cost_bps=2.0, tested_share=1.0)
    one.restart()
    one.write(*one.author.start(), *(event for _ in range(COLLAPSE_BARS) for event in one.author.bar()))
    one.bars(1)
    assert one.names == []


def test_agents_that_abstain_have_not_collapsed(scene):
    one = scene(author=Author(level=-1))
    one.write(*one.author.start(), *(event for _ in range(COLLAPSE_BARS) for event in one.author.bar()))
    one.bars(1)
    assert one.names == []
    assert one.watch.seen.view.abstaining


def test_features_that_drift_are_told():
    reference = Reference(10, {"momentum": np.zeros(1)}, {"momentum": np.full(2, 0.5)}, {"momentum": 0.2}, 1.5)
    a = Author()
    view = fold(View(), [Stored(n, event) for n, event in enumerate([*a.start(), *a.bar()], 1)])
    for index, told in ((0.29, []), (0.31, ["FeatureDrift"])):  # 0.2 x 1.5 is the limit
        around = Surroundings(AROUND.parameters, reference=reference, drift={"momentum": index})
        _, messages = evaluate(Standing(), samples(view, a.end + 2.0, around), a.end + 2.0, view.seq)
        assert [message.name for message in messages if message.name != "WatchdogAlive"] == told


def test_a_condition_must_hold_for_its_time_without_a_break():
    def judge(standing, value, now):
        return evaluate(standing, [Sample("unknown_orders", value)], now, 1)

    standing, told = judge(Standing(), 1, 0.0)
    assert not told
    standing, told = judge(standing, 0, 30.0)
    assert not standing.raised
    standing, told = judge(standing, 1, 50.0)
    standing, told = judge(standing, 1, 109.0)
    assert not told
    standing, told = judge(standing_of(standing.data()), 1, 110.0)
    assert [message.kind for message in told] == ["raised"]
    assert "unknown_orders is 1, above 0" in told[0].text


def test_each_alarm_names_a_metric_and_tells_what_to_do():
    assert len({alarm.name for alarm in ALARMS}) == len(ALARMS)
    for alarm in ALARMS:
        assert alarm.condition.metric in HELP or alarm.condition.metric == "up"
        assert alarm.summary.endswith(".")
        assert alarm.remedy.endswith(".")
        assert alarm.runbook == f"docs/runbook.md#{alarm.name.lower()}"
