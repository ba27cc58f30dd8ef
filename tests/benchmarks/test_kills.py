"""What killed commands leave is compared byte for byte, but for what is named with a reason."""

import json
from pathlib import Path

import pandas as pd
import pytest

from killed.state import artifacts, differences, ledgers


def test_changed_missing_and_added_files_are_told(tmp_path: Path) -> None:
    for project, names in (("a", ("same", "changed", "missing")), ("b", ("same", "changed", "added"))):
        (tmp_path / project / "deep").mkdir(parents=True)
        for name in names:
            (tmp_path / project / "deep" / name).write_text(project if name == "changed" else name)
    found, wanted = artifacts(tmp_path / "b"), artifacts(tmp_path / "a")
    assert differences(found, wanted) == ["+deep/added", "-deep/missing", "deep/changed"]
    assert differences(wanted, wanted) == []


@pytest.mark.parametrize(
    ("name", "one", "same", "other"),
    [
        (
            "report.html",
            "<p>models:/m-" + "a" * 32 + " measured 3,225 steps/s</p>",
            "<p>models:/m-" + "b" * 32 + " measured 79 steps/s</p>",
            "<p>models:/m-" + "a" * 32 + " measured 3,225 steps/s twice</p>",
        ),
        (
            "registry_decision.json",
            '{"time": "1", "version": "1"}',
            '{"time": "2", "version": "1"}',
            '{"version": "2"}',
        ),
        (
            "metrics.json",
            '{"targets": [{"measured": 1}, {"name": "hours_per_1000_episodes", "measured": 1}]}',
            '{"targets": [{"measured": 1}, {"name": "hours_per_1000_episodes", "measured": 2}]}',
            '{"targets": [{"measured": 2}, {"name": "hours_per_1000_episodes", "measured": 1}]}',
        ),
        ("search_trials.csv", "trial,seconds\n0,1\n", "trial,seconds\n0,2\n", "trial,seconds\n1,1\n"),
        ("folds.json", '{"time": 1}', '{"time": 1}', '{"time": 2}'),
    ],
)
def test_only_what_is_named_may_differ(tmp_path: Path, name: str, one: str, same: str, other: str) -> None:
    def digest(text: str) -> dict[str, str]:
        (tmp_path / name).write_text(text)
        return artifacts(tmp_path)

    assert digest(one) == digest(same) != digest(other)


def test_speeds_in_a_table_may_differ_and_results_may_not(tmp_path: Path) -> None:
    curves = pd.DataFrame({"update": [1, 2], "kl": [0.1, 0.2], "seconds_update": [1.0, 2.0]})
    digests = []
    for changed in (curves, curves.assign(seconds_update=9.0), curves.assign(kl=[0.1, 0.2 + 1e-16 + 1e-15])):
        changed.to_parquet(tmp_path / "training_curves.parquet")
        digests.append(artifacts(tmp_path)["training_curves.parquet"])
    assert digests[0] == digests[1] != digests[2]


def test_a_record_that_is_there_twice_counts_twice(tmp_path: Path) -> None:
    lines = [{"identity": "a", "time": "1"}, {"identity": "a", "time": "2"}, {"identity": "b", "time": "3"}]
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    assert sorted(ledgers(tmp_path).values()) == [1, 1, 2]
