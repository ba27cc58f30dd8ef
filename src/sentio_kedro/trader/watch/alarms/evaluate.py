"""Alarms of a set of metrics: raised once, kept until they are over, then resolved. Pure, as Prometheus would do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sentio_kedro.config.live.alarms import ALARMS, Alarm, Severity
from sentio_kedro.trader.clock import stamp_of
from sentio_kedro.trader.watch.metrics import Sample

KEEP_SECONDS = 300.0  # an alarm is over once its condition has not held for so long, so that none flaps


@dataclass(frozen=True)
class Raised:
    """A condition that holds, or has just held.

    Attributes:
        name: Of the alarm.
        labels: Of the metric.
        since: When it began to hold, seconds since 1970.
        held: When it last held.
        firing: Whether it has held long enough to be an alarm.
        value: Of the metric when it last held.
    """

    name: str
    labels: Mapping[str, str]
    since: float
    held: float
    firing: bool
    value: float


@dataclass(frozen=True)
class Message:
    """What is told to people.

    Attributes:
        kind: ``raised`` or ``resolved``.
        name: Of the alarm.
        severity: Of the alarm.
        text: What happened and what to type.
        at: When, seconds since 1970.
    """

    kind: Literal["raised", "resolved"]
    name: str
    severity: Severity
    text: str
    at: float


@dataclass(frozen=True)
class Standing:
    """What is raised, by key, and up to which event of the journal that is known.

    Attributes:
        seq: Place of the newest event that was judged; 0 if none was.
        raised: Conditions by alarm and labels.
    """

    seq: int = 0
    raised: Mapping[str, Raised] = field(default_factory=dict)

    @property
    def firing(self) -> list[Raised]:
        """The alarms, in the order of the list."""
        order = {alarm.name: number for number, alarm in enumerate(ALARMS)}
        return sorted((item for item in self.raised.values() if item.firing), key=lambda item: order[item.name])

    def data(self) -> dict[str, Any]:
        """Return plain data, which ``standing_of`` reads."""
        return {"seq": self.seq, "raised": {key: vars(item) for key, item in self.raised.items()}}


def standing_of(data: Mapping[str, Any]) -> Standing:
    """Read what ``Standing.data`` returned; alarms that are no longer in the list are left out."""
    known = {alarm.name for alarm in ALARMS}
    raised = {key: Raised(**item) for key, item in data.get("raised", {}).items() if item["name"] in known}
    return Standing(int(data.get("seq", 0)), raised)


def evaluate(
    standing: Standing, samples: Sequence[Sample], now: float, seq: int, alarms: Iterable[Alarm] = ALARMS
) -> tuple[Standing, list[Message]]:
    """Judge metrics at a time.

    Args:
        standing: What was raised before.
        samples: All metrics.
        now: Seconds since 1970.
        seq: Place of the newest event that they know.
        alarms: The list.

    Returns:
        What is raised now, and the messages: one when an alarm begins, one when it is over.
    """
    raised, messages = {}, []
    for alarm in alarms:
        before = {key: item for key, item in standing.raised.items() if item.name == alarm.name}
        for sample in samples:
            if not _holds(alarm, sample):
                continue
            key = _key(alarm, sample)
            item = before.pop(key, None) or Raised(alarm.name, dict(sample.labels), now, now, False, sample.value)
            firing = item.firing or now - item.since >= alarm.condition.seconds
            raised[key] = replace(item, held=now, value=sample.value, firing=firing)
            if firing and not item.firing:
                messages.append(_message("raised", alarm, raised[key], now))
        for key, item in before.items():
            if item.firing and now - item.held < KEEP_SECONDS:
                raised[key] = item
            elif item.firing:
                messages.append(_message("resolved", alarm, item, now))
    return Standing(seq, raised), messages


def _holds(alarm: Alarm, sample: Sample) -> bool:
    condition = alarm.condition
    return sample.name == condition.metric and condition.concerns(sample.labels) and condition.holds(sample.value)


def _key(alarm: Alarm, sample: Sample) -> str:
    return "|".join([alarm.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))])


def _message(kind: Literal["raised", "resolved"], alarm: Alarm, item: Raised, now: float) -> Message:
    labels = ", ".join(f"{name} {value}" for name, value in sorted(item.labels.items()))
    measured = f"{alarm.condition.metric}{f' ({labels})' if labels else ''} is {item.value:.4g}"
    bound = f"{'above' if alarm.condition.comparison == '>' else 'below'} {alarm.condition.threshold:g}"
    if kind == "raised":
        text = f"{alarm.summary} ({measured}, {bound}.) {alarm.remedy} See {alarm.runbook}."
    else:
        text = f"Over since {stamp_of(item.held)}; it began at {stamp_of(item.since)}."
    return Message(kind, alarm.name, alarm.severity, text, now)
