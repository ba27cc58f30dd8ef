"""Trials: distinct (parameters, code, universe) whose validation or test performance was computed.

Folds, seeds, smoke runs and repeats are no trials. The more trials a result was selected from, the better the best of
them is by chance; ``deflated_sharpe`` and ``overfitting`` correct for that. A result was selected from all trials that
share a symbol and a date with it: without a coin, or from another date on, it is no fresh start.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.measures.paths import median_path, median_place, once_a_bar, path_places
from sentio_kedro.evaluation.run_frames import RunFrames, account_table, row_times
from sentio_kedro.evaluation.statistics.bootstrap import Floats
from sentio_kedro.evaluation.statistics.deflated_sharpe import effective_trials, sharpe_moments

SEEDS = frozenset({"training.seed", "training.seeds"})
"""Parameters that do not make another trial: seeds and their number."""

COLUMNS = ("timestamp", "return")
SECONDS_A_YEAR = 365.25 * 86_400.0

LoadReturns = Callable[[str], pd.DataFrame | None]
"""Loads the returns that a record names, None if they are gone."""


@dataclass(frozen=True)
class Trial:
    """One test of a trial on some rows.

    Attributes:
        identity: SHA-256 of parameters, code and universe.
        universe: Symbols and length of a bar.
        rows: Digest of the rows that it was tested on, and of their bars.
        returns: ``timestamp`` (end of the bar of the decision) and ``return`` (simple, net) of each row.
        record: Record of the ledger, plain values.
    """

    identity: str
    universe: str
    rows: str
    returns: pd.DataFrame
    record: Mapping[str, Any]


@dataclass(frozen=True)
class RecordedTrials:
    """Trials that a result was selected from.

    Attributes:
        count: Distinct trials, the tested one included.
        sharpes: Their Sharpe ratios per bar of the tested one, if recorded, the tested one's first, [N].
        returns: Their returns on the tested one's rows, if recorded, the tested one's first; NaN on rows that a trial
            did not test, [T, M].
        on_test_rows: Distinct trials whose dates overlap those of the tested one, itself included.
        in_lockbox: Distinct trials on these symbols, tested on bars of what is now the lockbox.
    """

    count: int
    sharpes: Floats
    returns: Floats
    on_test_rows: int = 1
    in_lockbox: int = 0

    @property
    def peers(self) -> Floats:
        """Returns of the other trials that tested all these rows, [T, K]."""
        others = self.returns[:, 1:]
        return others[:, ~np.isnan(others).any(axis=0)]

    @cached_property
    def effective(self) -> int:
        """Number of independent trials that they amount to."""
        return effective_trials(self.returns, self.count)

    @property
    def deviation(self) -> float:
        """Sample deviation of the Sharpe ratios per bar, at least the sampling deviation of one of zero.

        So a few trials that happen to be equal, or whose Sharpe ratios are unknown, deflate too.
        """
        known = float(np.std(self.sharpes, ddof=1)) if len(self.sharpes) > 1 else 0.0
        return max(known, 1.0 / math.sqrt(len(self.returns)))


def universe_name(symbols: Collection[str], bar_minutes: float) -> str:
    """Name a universe: its symbols in alphabetical order and the length of its bars."""
    return f"{' '.join(sorted(symbols))} / {bar_minutes:g} min"


def _symbols_and_minutes(universe: str) -> tuple[set[str], float]:
    """Read a name from ``universe_name``."""
    symbols, minutes = universe.rsplit(" / ", 1)
    return set(symbols.split()), float(minutes.removesuffix(" min"))


def trial_identity(parameters: Mapping[str, Any], code: str, universe: str) -> str:
    """Return the SHA-256 that names a trial.

    Args:
        parameters: All parameters that shape a result, by dotted name; those of ``SEEDS`` are left out.
        code: Hash of the code that made the agents.
        universe: Name from ``universe_name``.
    """
    content = {"parameters": _shaping(parameters), "code": code, "universe": universe}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def make_trial(
    parameters: Mapping[str, Any],
    code: str,
    universe: str,
    returns: pd.DataFrame,
    kind: Literal["test", "validation"],
    about: Mapping[str, Any] | None = None,
    *,
    bars_hash: str,
) -> Trial:
    """Make a trial with its record.

    Args:
        parameters: As in ``trial_identity``, like ``code`` and ``universe``.
        code: Hash of the code that made the agents.
        universe: Name of the universe.
        returns: Columns ``COLUMNS``, one row per bar in order.
        kind: Rows that it was tested on.
        about: More entries of the record: ``periods_per_year`` (bars a year), the time, the MLflow run.
        bars_hash: Hash of the raw bars.

    Raises:
        ValueError: If there are fewer than two rows.
    """
    identity = trial_identity(parameters, code, universe)
    rows = _rows_digest(returns["timestamp"], bars_hash)
    moments = sharpe_moments(returns["return"].to_numpy(dtype=np.float64))
    record = {
        "identity": identity,
        "universe": universe,
        "code": code,
        "parameters": _shaping(parameters),
        "kind": kind,
        "bars_hash": bars_hash,
        "rows": rows,
        "first_timestamp": returns["timestamp"].iloc[0].isoformat(),
        "last_timestamp": returns["timestamp"].iloc[-1].isoformat(),
        **moments._asdict(),  # the Sharpe ratio is per bar
    }
    return Trial(identity, universe, rows, returns[list(COLUMNS)].reset_index(drop=True), record | dict(about or {}))


def given_up(
    parameters: Mapping[str, Any],
    code: str,
    universe: str,
    sharpe: float | None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record of a candidate that a search pruned or that diverged; it counts as a trial.

    Arguments as in ``make_trial``; ``sharpe`` is the latest Sharpe ratio per bar on validation rows, if there is one.
    """
    identity = trial_identity(parameters, code, universe)
    result = {"parameters": _shaping(parameters), "kind": "validation", "rows": "", "sharpe": sharpe}
    return {"identity": identity, "universe": universe, "code": code, **result, **dict(about or {})}


def _shaping(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in SEEDS}


def _rows_digest(timestamps: pd.Series, bars_hash: str) -> str:
    """16 digits of a hash of the rows' timestamps and of all the bars that they belong to."""
    nanoseconds = pd.DatetimeIndex(timestamps).as_unit("ns").asi8
    return hashlib.sha256(nanoseconds.tobytes() + bars_hash.encode()).hexdigest()[:16]


def trial_returns(frames: RunFrames) -> pd.DataFrame:
    """Returns of a run as a trial: those of the headline account, of folds that test the same rows on its median path.

    So it is an account that could have been held: a mean over folds is steadier than any.

    Returns:
        Columns ``COLUMNS``, one row per bar in order.
    """
    agent = frames.headline
    returns = once_a_bar(account_table(frames, "return"), agent)[agent]
    return pd.DataFrame({"timestamp": row_times(frames).to_numpy(), "return": returns.to_numpy(dtype=np.float64)})


def candidate_returns(returns: pd.DataFrame) -> pd.DataFrame:
    """Returns of a search candidate as a trial: those of its median seed on the validation rows.

    Args:
        returns: ``fold``, ``seed``, ``timestamp`` and ``return`` of every validation row.

    Returns:
        Columns ``COLUMNS``, one row per bar in order; of folds that share bars the median path of that seed.
    """
    growth = np.log1p(returns["return"].clip(lower=-1.0 + 1e-12)).groupby(returns["seed"]).sum()
    median = growth.index[median_place(growth)]
    of_seed = returns[returns["seed"] == median].sort_values(["fold", "timestamp"], kind="stable")
    nanoseconds = pd.DatetimeIndex(of_seed["timestamp"]).as_unit("ns").asi8
    places = median_path(of_seed["return"].to_numpy(dtype=np.float64), path_places(nanoseconds))
    by_bar: pd.DataFrame = of_seed.iloc[places][list(COLUMNS)].sort_values("timestamp", ignore_index=True)
    return by_bar


def lone_trial(returns: Floats) -> RecordedTrials:
    """Take a result with ``returns`` [T] for the only trial."""
    return RecordedTrials(1, np.array([sharpe_moments(returns).sharpe]), returns[:, None])


def recall(identity: str, run: str, returns: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> Trial | None:
    """Find the newest test of a trial by an MLflow run; None if the ledger has none.

    ``returns`` are those of that run (columns ``COLUMNS``); the ledger may hold those of another run.
    """
    tests = [x for x in records if x["identity"] == identity and x.get("run") == run and x["kind"] == "test"]
    return Trial(identity, tests[-1]["universe"], tests[-1]["rows"], returns, tests[-1]) if tests else None


def recorded_trials(
    trial: Trial,
    records: Sequence[Mapping[str, Any]],
    load: LoadReturns,
    lockbox: Mapping[str, Any] | None = None,
) -> RecordedTrials:
    """Collect all distinct trials from which ``trial`` was selected: those that share a symbol and a date with it.

    A candidate of a search counts at any date, since its validation rows chose the parameters. A trial with several
    tests counts once, with the test that shares the longest time with ``trial``, the first of equals.

    Args:
        trial: The tested trial; in the ledger or not.
        records: The ledger.
        load: Loads the returns that a record names.
        lockbox: ``first`` and ``last`` timestamp of the lockbox; None if there is none.
    """
    symbols, minutes = _symbols_and_minutes(trial.universe)
    per_year = _bars_a_year(trial.record)
    related = [record for record in records if symbols & _symbols_and_minutes(record["universe"])[0]]
    times = pd.DatetimeIndex(pd.to_datetime(trial.returns["timestamp"], utc=True))
    others: dict[str, tuple[float, Mapping[str, Any]]] = {}
    for record in related:
        shared, identity = _shared_seconds(record, times[0], times[-1]), record["identity"]
        is_other = identity != trial.identity and (shared >= 0.0 or record["kind"] == "validation")
        if is_other and (identity not in others or shared > others[identity][0]):
            others[identity] = shared, record
    own = trial.returns["return"].to_numpy(dtype=np.float64)
    sharpes, returns = [sharpe_moments(own).sharpe], [own]
    for shared, record in others.values():
        bar = _symbols_and_minutes(record["universe"])[1]
        factor = 1.0 if bar == minutes else _bars_a_year(record) / per_year
        if record["sharpe"] is not None and not math.isnan(factor):
            sharpes.append(record["sharpe"] * math.sqrt(factor))
        name = record["returns"] if shared >= 0.0 and bar == minutes else None
        if name is not None and (frame := load(name)) is not None:
            by_time = frame.set_index(pd.to_datetime(frame["timestamp"], utc=True))["return"]
            returns.append(by_time.reindex(times).to_numpy(dtype=np.float64))
    return RecordedTrials(
        1 + len(others),
        np.array(sharpes),
        np.stack(returns, axis=1),
        1 + sum(shared >= 0.0 for shared, _ in others.values()),
        0 if lockbox is None else _in_lockbox(related, lockbox),
    )


def _bars_a_year(record: Mapping[str, Any]) -> float:
    """``periods_per_year`` of a record, of older ones their bars a calendar year; NaN if their dates are unknown."""
    if "periods_per_year" in record:
        return float(record["periods_per_year"])
    seconds = _shared_seconds(record, pd.Timestamp.min.tz_localize("UTC"), pd.Timestamp.max.tz_localize("UTC"))
    return (record["bars"] - 1) * SECONDS_A_YEAR / seconds if seconds > 0.0 else math.nan


def _shared_seconds(record: Mapping[str, Any], first: pd.Timestamp, last: pd.Timestamp) -> float:
    """Time that a test shares with the span, below zero if they are apart; minus infinity if its dates are unknown."""
    if "last_timestamp" not in record:
        return -math.inf
    start, stop = (pd.to_datetime(record[name], utc=True) for name in ("first_timestamp", "last_timestamp"))
    return float((min(stop, last) - max(start, first)).total_seconds())


def _in_lockbox(records: Sequence[Mapping[str, Any]], lockbox: Mapping[str, Any]) -> int:
    """Number of distinct trials with a test that overlaps the lockbox."""
    first, last = (pd.to_datetime(lockbox[name], utc=True) for name in ("first", "last"))
    return len({record["identity"] for record in records if _shared_seconds(record, first, last) >= 0.0})
