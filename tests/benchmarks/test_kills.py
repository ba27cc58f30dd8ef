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
            "training_manifest.json",
            '{"training_timings.parquet": "a", "folds.json": "a"}',
            '{"training_timings.parquet": "b", "folds.json": "a"}',
            '{"training_timings.parquet": "a", "folds.json": "b"}',
        ),
        (
            "registry_decision.json",
            '{"time": "1", "version": "1"}',
            '{"time": "2", "version": "1"}',
            '{"version": "2"}',
        ),
        ("report.html", "<p>1</p>", "<p>1</p>", "<p>2</p>"),
        ("search_trials.csv", "trial,seconds\n0,1\n", "trial,seconds\n0,2\n", "trial,seconds\n1,1\n"),
        ("folds.json", '{"time": 1}', '{"time": 1}', '{"time": 2}'),
    ],
)
def test_only_what_is_named_may_differ(tmp_path: Path, name: str, one: str, same: str, other: str) -> None:
    def digest(text: str) -> dict[str, str]:
        (tmp_path / name).write_text(text)
        return artifacts(tmp_path)

    assert digest(one) == digest(same) != digest(other)


def test_speeds_may_differ_and_the_curves_of_a_training_may_not(tmp_path: Path) -> None:
    digests = []
    for kl, seconds in ((0.1, 1.0), (0.1, 9.0), (0.1 + 2e-16, 1.0)):
        pd.DataFrame({"update": [1], "kl": [kl]}).to_parquet(tmp_path / "training_curves.parquet")
        pd.DataFrame({"update": [1], "seconds_update": [seconds]}).to_parquet(tmp_path / "training_timings.parquet")
        digests.append(artifacts(tmp_path))
    assert digests[0] == digests[1] != digests[2]


def test_a_record_that_is_there_twice_counts_twice(tmp_path: Path) -> None:
    lines = [{"identity": "a", "time": "1"}, {"identity": "a", "time": "2"}, {"identity": "b", "time": "3"}]
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    assert sorted(ledgers(tmp_path).values()) == [1, 1, 2]
