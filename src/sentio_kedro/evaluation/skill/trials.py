"""What was tried: a trial is a distinct (parameters, code, universe) whose validation or test performance was computed.

Folds, seeds, smoke runs and repeats are no trials. The more trials a result was chosen from, the better the luckiest of
them looks, so that each one keeps its returns for as long as its ledger exists (see ``sharpe_tests``, ``overfitting``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.measures.paths import median_path, once_a_bar, path_places
from sentio_kedro.evaluation.run_frames import RunFrames, account_table, median_seed, row_times
from sentio_kedro.evaluation.statistics.bootstrap import Floats
from sentio_kedro.evaluation.statistics.sharpe_tests import sharpe_moments

SEEDS = frozenset({"training.seed", "training.seeds"})
"""Parameters that choose the draw of a result or how many there are: another seed is no other trial."""

COLUMNS = ("timestamp", "return")

LoadReturns = Callable[[str], pd.DataFrame | None]
"""Gives the returns that a record names, None if they are gone."""


@dataclass(frozen=True)
class Trial:
    """One judgement of a trial on some rows.

    Attributes:
        identity: SHA-256 of parameters, code and universe.
        universe: Symbols and length of a bar.
        rows: Digest of the rows that it was judged on; trials with the same one can be compared bar by bar.
        returns: ``timestamp`` (end of the bar of the decision) and ``return`` (simple, net) of each row.
        record: What the ledger keeps of it, plain values.
    """

    identity: str
    universe: str
    rows: str
    returns: pd.DataFrame
    record: Mapping[str, Any]


@dataclass(frozen=True)
class RecordedTrials:
    """What a result was chosen from.

    Attributes:
        count: Distinct trials on the universe, the judged one included.
        sharpes: Their Sharpe ratios per bar, as far as known, the judged one's first, [N].
        peers: Returns of the other trials that were judged on the same rows, [T, M].
        in_lockbox: Distinct trials on the universe, judged on bars of what is now the lockbox.
    """

    count: int
    sharpes: Floats
    peers: Floats
    in_lockbox: int = 0

    @property
    def deviation(self) -> float:
        """Sample deviation of the Sharpe ratios per bar; 0 if fewer than two are known."""
        return float(np.std(self.sharpes, ddof=1)) if len(self.sharpes) > 1 else 0.0


def universe_name(symbols: Collection[str], bar_minutes: float) -> str:
    """Name a universe: its symbols in order of the alphabet and the length of its bars."""
    return f"{' '.join(sorted(symbols))} / {bar_minutes:g} min"


def trial_identity(parameters: Mapping[str, Any], code: str, universe: str) -> str:
    """Return the SHA-256 that names a trial.

    Args:
        parameters: All that shape a result, by dotted name; those of ``SEEDS`` are left out.
        code: Hash of the code that made the agents.
        universe: See ``universe_name``.
    """
    about = {"parameters": _shaping(parameters), "code": code, "universe": universe}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


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
    """Describe one judgement of a trial.

    Args:
        parameters: See ``trial_identity``.
        code: Hash of the code that made the agents.
        universe: See ``universe_name``.
        returns: Columns ``COLUMNS``, one row per bar in order.
        kind: Which rows it was judged on.
        about: What else the record should say, such as the time and the MLflow run.
        bars_hash: Hash of the raw bars: trials on restated bars cannot be compared bar by bar.

    Raises:
        ValueError: If there are fewer than two rows.
    """
    identity = trial_identity(parameters, code, universe)
    rows = trial_rows(returns["timestamp"], bars_hash)
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
    """Return the record of a trial that a search gave up or that diverged: it was tried, so it counts.

    Args:
        parameters: See ``trial_identity``.
        code: Hash of the code that made the agents.
        universe: See ``universe_name``.
        sharpe: Sharpe ratio per bar on validation rows, as far as it was known; None if it was not.
        about: What else the record should say.
    """
    identity = trial_identity(parameters, code, universe)
    known = {"parameters": _shaping(parameters), "kind": "validation", "rows": "", "sharpe": sharpe}
    return {"identity": identity, "universe": universe, "code": code, **known, **dict(about or {})}


def _shaping(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in SEEDS}


def trial_rows(timestamps: pd.Series, bars_hash: str) -> str:
    """Return 16 digits that tell rows from others: by their stamps, and by all the bars that they are rows of.

    Args:
        timestamps: End of the bar of each decision, in order.
        bars_hash: Hash of the raw bars.
    """
    nanoseconds = pd.DatetimeIndex(timestamps).as_unit("ns").asi8
    return hashlib.sha256(nanoseconds.tobytes() + bars_hash.encode()).hexdigest()[:16]


def trial_returns(frames: RunFrames) -> pd.DataFrame:
    """Returns that a run is judged by as a trial: those of the median agent (``frames.median_seed``), never the best.

    Of folds that test the same rows, it is the median path of that agent (``backtest_paths.median_path``). So it is an
    account that could have been held: a mean over seeds or folds is steadier than any.

    Args:
        frames: Frames of the run.

    Returns:
        Columns ``COLUMNS``, one row per bar in order.
    """
    agent = median_seed(frames)
    mine = once_a_bar(account_table(frames, "return"), agent)[agent]
    return pd.DataFrame({"timestamp": row_times(frames).to_numpy(), "return": mine.to_numpy(dtype=np.float64)})


def candidate_returns(returns: pd.DataFrame) -> pd.DataFrame:
    """Returns that a candidate of a search is judged by: those of its median seed on the validation rows.

    Args:
        returns: ``fold``, ``seed``, ``timestamp`` and ``return`` of every validation row.

    Returns:
        Columns ``COLUMNS``, one row per bar in order; of folds that share bars the median path of that seed.
    """
    growth = np.log1p(returns["return"].clip(lower=-1.0 + 1e-12)).groupby(returns["seed"]).sum()
    median = growth.sort_values(kind="stable").index[(len(growth) - 1) // 2]
    mine = returns[returns["seed"] == median].sort_values(["fold", "timestamp"], kind="stable")
    nanoseconds = pd.DatetimeIndex(mine["timestamp"]).as_unit("ns").asi8
    places = median_path(mine["return"].to_numpy(dtype=np.float64), path_places(nanoseconds))
    by_bar: pd.DataFrame = mine.iloc[places][list(COLUMNS)].sort_values("timestamp", ignore_index=True)
    return by_bar


def lone_trial(returns: Floats) -> RecordedTrials:
    """Take a result for the only trial, where no ledger is known; ``returns`` are [T]."""
    return RecordedTrials(1, np.array([sharpe_moments(returns).sharpe]), np.empty((len(returns), 0)))


def recall(identity: str, run: str, returns: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> Trial | None:
    """Find a trial again that an MLflow run was recorded as.

    Args:
        identity: What the run is as a trial.
        run: Id of the run.
        returns: Columns ``COLUMNS``, as that run judged them; the ledger may hold those of another seed.
        records: The ledger.

    Returns:
        The run's newest trial; None if the ledger knows none.
    """
    mine = [entry for entry in records if entry["identity"] == identity and entry.get("run") == run]
    known = [entry for entry in mine if entry["kind"] == "test"]
    return Trial(identity, known[-1]["universe"], known[-1]["rows"], returns, known[-1]) if known else None


def recorded_trials(
    mine: Trial,
    records: Sequence[Mapping[str, Any]],
    load: LoadReturns,
    lockbox: Mapping[str, Any] | None = None,
) -> RecordedTrials:
    """Find what ``mine`` was chosen from: all distinct trials on its universe.

    A trial that was judged on several rows counts once, with its Sharpe ratio on the rows of ``mine`` if it has one
    there, else with its first.

    Args:
        mine: The trial that is judged; in the ledger or not.
        records: The ledger.
        load: Gives the returns that a record names.
        lockbox: ``first`` and ``last`` stamp of the lockbox; None if there is none.
    """
    others: dict[str, Mapping[str, Any]] = {}
    for record in records:
        if record["universe"] != mine.universe or record["identity"] == mine.identity:
            continue
        known = others.get(record["identity"])
        if known is None or (known["rows"] != mine.rows and record["rows"] == mine.rows):
            others[record["identity"]] = record
    sharpes = [record["sharpe"] for record in others.values() if record["sharpe"] is not None]
    named = [record["returns"] for record in others.values() if record["rows"] == mine.rows and record["returns"]]
    found = [frame["return"].to_numpy(dtype=np.float64) for name in named if (frame := load(name)) is not None]
    own = sharpe_moments(mine.returns["return"].to_numpy(dtype=np.float64)).sharpe
    bars = len(mine.returns)
    return RecordedTrials(
        1 + len(others),
        np.array([own, *sharpes]),
        np.stack(found, axis=1) if found else np.empty((bars, 0)),
        0 if lockbox is None else _in_lockbox(mine.universe, records, lockbox),
    )


def _in_lockbox(universe: str, records: Sequence[Mapping[str, Any]], lockbox: Mapping[str, Any]) -> int:
    first, last = (pd.to_datetime(lockbox[name], utc=True) for name in ("first", "last"))
    judged = [entry for entry in records if entry["universe"] == universe and "last_timestamp" in entry]
    return len(
        {
            entry["identity"]
            for entry in judged
            if pd.to_datetime(entry["last_timestamp"], utc=True) >= first
            and pd.to_datetime(entry["first_timestamp"], utc=True) <= last
        }
    )
