"""What benchmarks/learning.py tells of the agents that it trained. Nothing is trained here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import learning
from planted.study import LearningResult


def result(share: float, asset_shares: list[float], positions: list[float], gross: list[float]) -> LearningResult:
    held = np.array(positions)[:, None]
    return LearningResult(share, asset_shares, 0.5, 6.0, 1.0, np.array(gross), held, 10.0)


def test_assets_are_told_by_the_lowest_median_and_the_lowest_of_all() -> None:
    nothing = math.nan  # an asset whose optimum earns nothing
    told = learning.summarise(
        [
            result(0.7, [0.9, 0.2, nothing], [0.0], [0.0]),
            result(0.8, [0.8, 0.5, nothing], [0.0], [0.0]),
            result(0.9, [0.1, 0.6, nothing], [0.0], [0.0]),
        ]
    )
    assert told["share_of_optimum"] == [0.7, 0.8, 0.9]
    assert told["median_share_per_asset"] == [0.8, 0.5, None]
    assert (told["lowest_asset_median"], told["lowest_asset_worst"]) == (0.5, 0.1)


def test_one_asset_is_not_told_apart_from_the_whole() -> None:
    told = learning.summarise([result(0.7, [0.7], [0.0], [0.0])])
    assert not {"median_share_per_asset", "lowest_asset_median", "lowest_asset_worst"} & told.keys()


def test_agents_that_hold_nothing_on_noise_are_counted_as_flat() -> None:
    won = [0.01, 0.03, 0.02, 0.02]
    flat = result(math.nan, [math.nan], [0.0, 0.0, 0.0, 0.0], [0.0] * 4)
    once = result(math.nan, [math.nan], [0.0, 0.0, 0.5, 0.0], won)
    told = learning.summarise([flat, once, flat])
    assert (told["seeds"], told["seeds_flat"], told["seeds_significant_alone"]) == (3, 2, 1)
    assert told["mean_gross_per_bar"] == pytest.approx(np.mean(won) / 3.0)


def test_what_was_measured_is_written_with_its_settings(tmp_path: Path) -> None:
    answer = {"ar1": {"share_of_optimum": [0.5]}, "settings": learning.settings([7], ["training.members=4"])}
    output = tmp_path / "new" / "ar1.json"
    learning.write(answer, output)
    assert json.loads(output.read_text()) == answer
    assert (answer["settings"]["seeds"], answer["settings"]["changes"]) == ([7], ["training.members=4"])
