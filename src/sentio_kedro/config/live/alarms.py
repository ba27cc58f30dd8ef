"""All alarms of a trader in one list: the watching process evaluates it, and Prometheus rules are made from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["critical", "warning", "info"]
"""``critical`` wakes somebody up, ``warning`` is read in the morning, ``info`` shows that messages arrive."""

PREFIX = "sentio_"  # of all metrics
FILLS = 50  # newest ones whose slippage is compared with the cost model
CONFIRMING = 25  # fills in a row after each of which it must be above: one look in three raises a false alarm otherwise
COLLAPSED = 0.99  # share of one action
COLLAPSE_BARS = 500  # newest ones over which actions are counted
NEAR = 0.8  # share of a limit that is near to it
STALE_BARS = 2.0  # age of the newest bar: a bar comes when the one before is 1 bar old
BAND_PROBABILITY = 0.025  # of a return below the band that is drawn
FALSE_ALARMS = 0.005  # share of healthy records that are below the band at some bar
SETTLED_SECONDS = 60.0  # an order without an answer is looked up three times within `orders.settle_seconds`


@dataclass(frozen=True)
class Condition:
    """A threshold on a metric, for the evaluator and as PromQL.

    Attributes:
        metric: Name without ``PREFIX``; ``up`` is Prometheus' own.
        comparison: Side of the threshold that is bad.
        threshold: In the metric's unit.
        labels: Regular expressions that labels match in full.
        seconds: How long it must hold.
    """

    metric: str
    comparison: Literal[">", "<"]
    threshold: float
    labels: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def holds(self, value: float) -> bool:
        """Whether a value is on the bad side; NaN is not."""
        return value > self.threshold if self.comparison == ">" else value < self.threshold

    def concerns(self, labels: Mapping[str, str]) -> bool:
        """Whether a sample with these labels is meant."""
        return all(re.fullmatch(pattern, labels.get(name, "")) for name, pattern in self.labels.items())

    @property
    def promql(self) -> str:
        """The condition as an expression of Prometheus."""
        name = self.metric if self.metric == "up" else PREFIX + self.metric
        matched = ",".join(f'{label}=~"{pattern}"' for label, pattern in self.labels.items())
        selector = f"{name}{{{matched}}}" if matched else name
        return f"{selector} {self.comparison} {self.threshold:g}"


@dataclass(frozen=True)
class Alarm:
    """An alarm.

    Attributes:
        name: Also the heading of its section in ``docs/runbook.md``.
        severity: See ``Severity``.
        condition: When it is raised.
        summary: What is the matter, in one sentence.
        remedy: What to type, or to look at.
    """

    name: str
    severity: Severity
    condition: Condition
    summary: str
    remedy: str

    @property
    def runbook(self) -> str:
        """Where the runbook explains it."""
        return f"docs/runbook.md#{self.name.lower()}"


ALARMS = (
    Alarm(
        "TraderDown",
        "critical",
        Condition("trader_dead", ">", 0),
        "No bar was closed for `trader.watch.dead_after_bars` of an open session: the trader is down or hangs.",
        "Read its log and start it again: `kedro trader run`. What becomes of its orders: `trader.watch.on_death`.",
    ),
    Alarm(
        "StaleBars",
        "warning",
        Condition("bar_age_bars", ">", STALE_BARS),
        "The newest bar is more than two bars old while the session is open.",
        "Ask the feed: `kedro trader doctor`. If the vendor is down, wait; if the process is, see TraderDown.",
    ),
    Alarm(
        "Halted",
        "critical",
        Condition("state", ">", 1),
        "The trader is halted: it sends nothing, and positions stay as they are.",
        'Read why: `kedro trader status`. Then `kedro trader resume --reason "..."`, or `kedro trader flatten`.',
    ),
    Alarm(
        "ReconcileMismatch",
        "critical",
        Condition("reconcile_mismatch", ">", 0),
        "Venue and journal differ in orders, fills, positions, cash or clock.",
        'Read the table: `kedro trader reconcile`. If the venue is right: `kedro trader reconcile --adopt "reason"`.',
    ),
    Alarm(
        "UnknownOrders",
        "critical",
        Condition("unknown_orders", ">", 0, seconds=SETTLED_SECONDS),
        "The venue has not said for a minute whether it has an order; nothing is traded in its symbol.",
        "Look the order up at the venue by the id that `kedro trader status` shows, then `kedro trader reconcile`.",
    ),
    Alarm(
        "DrawdownNearLimit",
        "warning",
        Condition("limit_used", ">", NEAR, {"limit": "drawdown|daily_loss"}),
        "Drawdown or the session's loss has used four fifths of its limit; at the limit positions are only reduced.",
        "Decide whether to go on: `kedro trader reduce`, or `kedro trader flatten`. The limits are `trader.limits`.",
    ),
    Alarm(
        "BelowBand",
        "warning",
        Condition("band_ratio", ">", 1),
        "The return since the start is lower than 99.5 % of the backtest's resampled paths ever are.",
        "Find what differs: `kedro run --pipeline live`. If it is decisions or data: `kedro trader halt`.",
    ),
    Alarm(
        "SlippageAboveModel",
        "warning",
        Condition("slippage_excess_errors", ">", 3),
        f"The median slippage of {FILLS} fills exceeds the cost model by three standard errors, at {CONFIRMING} looks.",
        "Compare by symbol: `kedro run --pipeline live`. Raise `trading.costs` to what is paid and test again.",
    ),
    Alarm(
        "FeatureDrift",
        "warning",
        Condition("feature_drift_ratio", ">", 1),
        "Features are distributed otherwise than 99 % of equally long blocks of the bars that agents learned on.",
        "Look which feature it is on the status page, then at the feed's bars. A weak alarm: consider training again.",
    ),
    Alarm(
        "ActionCollapse",
        "warning",
        Condition("action_share_largest", ">", COLLAPSED),
        f"More than 99 % of the actions of the last {COLLAPSE_BARS} bars are the same, unlike in the backtest.",
        "Compare with the report's actions, then check the feed's bars: `kedro trader doctor`.",
    ),
    Alarm(
        "ClockSkew",
        "critical",
        Condition("limit_used", ">", 1, {"limit": "clock_skew_seconds"}),
        "The clocks of this machine and of the venue differ by more than `trader.limits.clock_skew_seconds`.",
        "Set the clock: `timedatectl set-ntp true`. Then `kedro trader reconcile`.",
    ),
    Alarm(
        "WatchDown",
        "critical",
        Condition("up", "<", 1, {"job": "sentio"}, seconds=60.0),
        "Prometheus cannot read the watching process, so that nobody looks after the trader.",
        "Start it: `kedro trader watch`, or `systemctl start sentio-watch`.",
    ),
    Alarm(
        "WatchdogAlive",
        "info",
        Condition("watch_up", ">", 0),
        "Always raised while the watching process works: its absence means that alarms no longer arrive.",
        "Nothing to do.",
    ),
)
"""What is raised, the most urgent causes first."""
