"""Trials: distinct (parameters, code, universe) whose validation or test performance was computed.

Folds, seeds, smoke runs and repeats are no trials. The more trials a result was selected from, the better the luckiest
of them is; ``deflated_sharpe`` and ``overfitting`` correct for that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.measures.paths import median_path, median_place, once_a_bar, path_places
from sentio_kedro.evaluation.run_frames import RunFrames, account_table, median_seed, row_times
from sentio_kedro.evaluation.statistics.bootstrap import Floats
from sentio_kedro.evaluation.statistics.deflated_sharpe import sharpe_moments

SEEDS = frozenset({"training.seed", "training.seeds"})
"""Parameters that do not make another trial: seeds and their number."""

COLUMNS = ("timestamp", "return")

LoadReturns = Callable[[str], pd.DataFrame | None]
"""Loads the returns that a record names, None if they are gone."""


@dataclass(frozen=True)
class Trial:
    """One test of a trial on some rows.

    Attributes:
        identity: SHA-256 of parameters, code and universe.
        universe: Symbols and length of a bar.
        rows: Digest of the rows that it was tested on; trials with the same one can be compared bar by bar.
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
        count: Distinct trials on the universe, the tested one included.
        sharpes: Their Sharpe ratios per bar, if recorded, the tested one's first, [N].
        peers: Returns of the other trials on the same rows, [T, M].
        in_lockbox: Distinct trials on the universe, tested on bars of what is now the lockbox.
    """

    count: int
    sharpes: Floats
    peers: Floats
    in_lockbox: int = 0

    @property
    def deviation(self) -> float:
        """Sample deviation of the Sharpe ratios per bar; 0 for fewer than two."""
        return float(np.std(self.sharpes, ddof=1)) if len(self.sharpes) > 1 else 0.0


def universe_name(symbols: Collection[str], bar_minutes: float) -> str:
    """Name a universe: its symbols in alphabetical order and the length of its bars."""
    return f"{' '.join(sorted(symbols))} / {bar_minutes:g} min"


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
        about: More entries of the record, such as the time and the MLflow run.
        bars_hash: Hash of the raw bars: trials on restated bars cannot be compared bar by bar.

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
    """Returns of a run as a trial: those of the median agent, of folds that test the same rows on its median path.

    So it is an account that could have been held: a mean over seeds or folds is steadier than any.

    Returns:
        Columns ``COLUMNS``, one row per bar in order.
    """
    agent = median_seed(frames)
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
    return RecordedTrials(1, np.array([sharpe_moments(returns).sharpe]), np.empty((len(returns), 0)))


def recall(identity: str, run: str, returns: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> Trial | None:
    """Find the newest test of a trial by an MLflow run; None if the ledger has none.

    ``returns`` are those of that run (columns ``COLUMNS``); the ledger may hold those of another seed.
    """
    tests = [x for x in records if x["identity"] == identity and x.get("run") == run and x["kind"] == "test"]
    return Trial(identity, tests[-1]["universe"], tests[-1]["rows"], returns, tests[-1]) if tests else None


def recorded_trials(
    trial: Trial,
    records: Sequence[Mapping[str, Any]],
    load: LoadReturns,
    lockbox: Mapping[str, Any] | None = None,
) -> RecordedTrials:
    """Collect all distinct trials on the universe of ``trial``, from which it was selected.

    A trial with several tests counts once, with its Sharpe ratio on the rows of ``trial`` if it has one there, else
    with its first.

    Args:
        trial: The tested trial; in the ledger or not.
        records: The ledger.
        load: Loads the returns that a record names.
        lockbox: ``first`` and ``last`` timestamp of the lockbox; None if there is none.
    """
    universe = [record for record in records if record["universe"] == trial.universe]
    others: dict[str, Mapping[str, Any]] = {}
    for record in universe:
        earlier = others.get(record["identity"])
        if earlier is None or (earlier["rows"] != trial.rows and record["rows"] == trial.rows):
            others[record["identity"]] = record
    others.pop(trial.identity, None)
    sharpes = [record["sharpe"] for record in others.values() if record["sharpe"] is not None]
    names = [record["returns"] for record in others.values() if record["rows"] == trial.rows and record["returns"]]
    peers = [frame["return"].to_numpy(dtype=np.float64) for name in names if (frame := load(name)) is not None]
    return RecordedTrials(
        1 + len(others),
        np.array([sharpe_moments(trial.returns["return"].to_numpy(dtype=np.float64)).sharpe, *sharpes]),
        np.stack(peers, axis=1) if peers else np.empty((len(trial.returns), 0)),
        0 if lockbox is None else _in_lockbox(universe, lockbox),
    )


def _in_lockbox(records: Sequence[Mapping[str, Any]], lockbox: Mapping[str, Any]) -> int:
    """Number of distinct trials with a test that overlaps the lockbox."""
    first, last = (pd.to_datetime(lockbox[name], utc=True) for name in ("first", "last"))
    return len(
        {
            record["identity"]
            for record in records
            if "last_timestamp" in record
            and pd.to_datetime(record["last_timestamp"], utc=True) >= first
            and pd.to_datetime(record["first_timestamp"], utc=True) <= last
        }
    )
