"""Records of the ledgers: what their readers rely on. More entries are allowed, since later versions add some."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

_MORE = ConfigDict(extra="allow")
Universe = Annotated[str, StringConstraints(pattern=r"^.* / \d+(\.\d+)?(e[+-]\d+)? min$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[\w-]+$")]


class TrialRecord(TypedDict):
    """A test of a trial; see ``evaluation.skill.trials``. A candidate that was given up has no dates and no bars."""

    __pydantic_config__ = _MORE  # type: ignore[misc]

    identity: str
    universe: Universe
    kind: Literal["test", "validation"]
    rows: str
    sharpe: FiniteFloat | None
    returns: FileName | None
    bars: NotRequired[int]
    periods_per_year: NotRequired[FiniteFloat]
    first_timestamp: NotRequired[datetime]
    last_timestamp: NotRequired[datetime]


class DecisionRecord(TypedDict):
    """A promotion, its refusal or a rollback; see ``tracking.registry.take_effect``."""

    __pydantic_config__ = _MORE  # type: ignore[misc]

    time: str
    decision: Literal["promoted", "refused", "kept", "rolled_back"]
    model: str
    version: str
    champion: str | None
    reasons: list[str]
    restored: NotRequired[str]


class OpeningRecord(TypedDict):
    """The opening of a lockbox; see ``evaluation.lockbox.opening_record``."""

    __pydantic_config__ = _MORE  # type: ignore[misc]

    event: Literal["opened"]
    opening: str
    time: str
    model: str
    agents: list[str]
    bars_hash: str
    symbols: list[str]
    first: datetime
    last: datetime


class ResultRecord(TypedDict):
    """The result of an opening; see ``evaluation.lockbox.result_record``."""

    __pydantic_config__ = _MORE  # type: ignore[misc]

    event: Literal["result"]
    opening: str
    time: str
    total_return: FiniteFloat | None


def _dated(record: TrialRecord) -> TrialRecord:
    if "last_timestamp" in record and not {"first_timestamp", "bars"} <= record.keys():
        raise ValueError("a record with `last_timestamp` must have `first_timestamp` and `bars`")
    return record


def _restoring(record: DecisionRecord) -> DecisionRecord:
    if record["decision"] == "rolled_back" and "restored" not in record:
        raise ValueError("a rollback must have `restored`")
    return record


RECORDS: dict[str, TypeAdapter[Any]] = {
    "trial": TypeAdapter(Annotated[TrialRecord, AfterValidator(_dated)]),
    "decision": TypeAdapter(Annotated[DecisionRecord, AfterValidator(_restoring)]),
    "opening": TypeAdapter(Annotated[OpeningRecord | ResultRecord, Field(discriminator="event")]),
}
"""Kinds of records, by the names that the catalog's ``record`` takes."""
