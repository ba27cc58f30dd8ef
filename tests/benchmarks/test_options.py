"""What benchmarks/options.py keeps on each path, and that test rows have no say in it. Nothing is trained here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import learning_report
import options
from options import OPTIONS, choose, compare
from planted.catalogue import MARKETS
from planted.study import LearningResult


def agent(share: float, validation: float, seconds: float = 10.0) -> LearningResult:
    return LearningResult(share, [share], 0.5, 6.0, 1.0, np.zeros(2), np.zeros((2, 1)), seconds, validation)


def test_validation_rows_choose_whatever_the_test_rows_say() -> None:
    assert choose({"a": agent(0.9, 1.0), "b": agent(0.1, 2.0), "c": agent(1.0, math.nan)}) == "b"
    assert choose({"a": agent(0.0, 1.0), "b": agent(0.9, 1.0)}) == "a"  # the first of equals
    assert choose({"a": agent(0.0, math.nan), "b": agent(0.9, math.nan)}) == "a"


def test_one_agent_is_kept_on_each_path_and_the_others_stand_beside_it() -> None:
    told = compare({"a": [agent(0.2, 3.0), agent(0.7, -1.0, 20.0)], "b": [agent(0.8, 2.0), agent(0.4, 1.0)]})
    assert told["chosen"] == ["a", "b"]
    assert told["share_of_optimum"] == [0.2, 0.4]
    assert told["train_seconds"] == [20.0, 30.0]
    assert told["share_by_option"] == {"a": [0.2, 0.7], "b": [0.8, 0.4]}
    assert told["validation_sharpe"] == {"a": [3.0, -1.0], "b": [2.0, 1.0]}


def test_options_are_the_four_ways_to_resample_and_the_defaults_come_first() -> None:
    assert len({changes for changes in OPTIONS.values()}) == 4
    first = next(iter(OPTIONS.values()))
    assert first == ("training.resampling.mirror_blocks=true", "training.resampling.detrended=false")


def test_what_is_written_is_a_line_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def measure(market: object, seeds: list[int], changes: list[str]) -> list[LearningResult]:
        asked.append((market, tuple(changes)))
        return [agent(0.1 * len(asked), float(len(asked))) for _ in seeds]

    monkeypatch.setattr(options, "measure", measure)
    output = tmp_path / "options.json"
    given = ["options.py", "--markets", "size", "--seeds", "3", "4", "--set", "training.members=1"]
    monkeypatch.setattr("sys.argv", [*given, "--output", str(output)])
    options.main()
    assert asked == [(MARKETS["size"], ("training.members=1", *changes)) for changes in OPTIONS.values()]
    written = json.loads(output.read_text())
    assert written["settings"]["changes"] == ["training.members=1"]
    assert written["size"]["share_of_optimum"] == pytest.approx([0.4, 0.4])
    table = learning_report.render(learning_report.read_results([output]))
    (line,) = [row for row in table.splitlines() if row.startswith("| `size` options chosen on validation rows |")]
    assert "0.40 0.40" in line
