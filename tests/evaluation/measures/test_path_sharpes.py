"""Backtest paths of combinatorial folds hold every row once, by the assignment of the splits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from sentio_kedro.evaluation.measures.path_sharpes import sharpe_paths
from sentio_kedro.evaluation.run_frames import COLUMNS, RunFacts, RunFrames
from sentio_kedro.market.purged_folds import combinatorial_paths
from sentio_kedro.trading.performance import sharpe_ratio

MakeRun = Callable[..., RunFrames]
GROUPS, TESTED, ROWS = 4, 2, 30


def _combinatorial(frames: RunFrames) -> RunFrames:
    """The same accounts on folds of two groups of four: agents have returns of their own in each fold."""
    rng = np.random.default_rng(0)
    template = frames.accounts.iloc[0]
    parts = []
    for fold, groups in enumerate(combinations(range(GROUPS), TESTED)):
        rows = np.concatenate([np.arange(group * ROWS, (group + 1) * ROWS) for group in groups])
        parts.append(
            pd.DataFrame({"row": rows, "fold": fold, "account": "seed_0", "return": rng.normal(size=len(rows))})
        )
    for name in ("buy_and_hold", "equal_weight", "momentum", "random"):
        whole = pd.DataFrame({"row": np.arange(GROUPS * ROWS), "fold": -1, "account": name})
        parts.append(whole.assign(**{"return": rng.normal(size=GROUPS * ROWS)}))
    accounts = pd.concat(parts, ignore_index=True)
    accounts["return"] *= 0.01
    for column in COLUMNS["accounts"]:
        if column not in accounts.columns:
            accounts[column] = template[column]
    return RunFrames(**{name: getattr(frames, name) for name in COLUMNS if name != "accounts"}, accounts=accounts)


def test_paths_are_those_of_the_splits(make_run: MakeRun) -> None:
    frames = _combinatorial(make_run(seeds=1))
    found = sharpe_paths(frames, "combinatorial", 252.0)
    mine = {entry["number"]: entry for entry in found["entries"] if entry["account"] == "seed_0"}
    returns = frames.accounts[frames.accounts["account"] == "seed_0"].set_index(["fold", "row"])["return"]
    assigned = combinatorial_paths(GROUPS, TESTED)
    assert len(mine) == max(assigned.values()) + 1 == 3
    for path, entry in mine.items():
        parts = {
            group: returns.loc[fold].loc[group * ROWS : (group + 1) * ROWS - 1]
            for (fold, group), number in assigned.items()
            if number == path
        }
        whole = pd.concat([parts[group] for group in range(GROUPS)]).to_numpy()
        assert entry["bars"] == len(whole) == GROUPS * ROWS
        assert entry["sharpe"] == pytest.approx(float(sharpe_ratio(torch.from_numpy(whole.copy()), 252.0)))
    assert found["kind"] == "path"
    assert found["median"] == pytest.approx(np.median([entry["sharpe"] for entry in mine.values()]))
    baseline = [entry["sharpe"] for entry in found["entries"] if entry["account"] == "momentum"]
    assert baseline == pytest.approx([baseline[0]] * 3)  # it walks every row once


def test_other_folds_have_one_entry_per_fold(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run(seeds=3)
    found = sharpe_paths(frames, "walk_forward", facts.periods_per_year)
    assert (found["kind"], found["agents"]) == ("fold", 12)
    fold = frames.accounts[(frames.accounts["account"] == "seed_2") & (frames.accounts["fold"] == 1)]["return"]
    (entry,) = [one for one in found["entries"] if (one["account"], one["number"]) == ("seed_2", 1)]
    assert entry["sharpe"] == pytest.approx(fold.mean() / fold.std() * np.sqrt(facts.periods_per_year))
    assert found["losing"] == np.mean([one["sharpe"] < 0 for one in found["entries"] if one["account"][:5] == "seed_"])
