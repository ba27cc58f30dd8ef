"""The table of docs/learning.md is what the measurements say, and nobody types a figure into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import learning_report
from learning_report import COLUMNS, PAGE, RESULTS, ROWS, read_results, render, written
from planted.catalogue import MARKETS

FIVE = [0, 1, 2, 3, 4]


def saved(folder: Path, name: str, answer: dict[str, Any], seeds: list[int], *changes: str) -> Path:
    path = folder / name
    path.write_text(json.dumps(answer | {"settings": {"seeds": seeds, "changes": list(changes)}}))
    return path


def shares(*values: float, **more: Any) -> dict[str, Any]:
    ridge = {"ridge_share": [0.5, 0.7], "train_seconds": [9.0, 11.0, 31.0]}
    return {"share_of_optimum": list(values)} | ridge | more


def line(folder: Path, start: str) -> dict[str, str]:
    table = render(read_results(folder.glob("*.json")))
    (found,) = [row for row in table.splitlines() if row.startswith(f"| {start} |")]
    return dict(zip(COLUMNS, (cell.strip() for cell in found.strip("|").split("|")), strict=True))


def test_the_page_holds_what_the_committed_measurements_say() -> None:
    page = PAGE.read_text()
    assert written(page, render(read_results(RESULTS.glob("*.json")))) == page


def test_every_committed_market_has_one_list_of_shares_as_long_as_its_seeds() -> None:
    for path in RESULTS.glob("*.json"):
        answer = json.loads(path.read_text())
        seeds = answer.pop("settings")["seeds"]
        for market, entry in answer.items():
            assert market in MARKETS
            assert market == "noise" or len(entry["share_of_optimum"]) == len(seeds), path.name


def test_every_market_has_a_line_that_says_when_it_was_not_measured(tmp_path: Path) -> None:
    assert {row.market for row in ROWS} == set(MARKETS)
    table = render(read_results(tmp_path.glob("*.json")))
    assert table.count("| not measured |") == len(ROWS)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((0.92, 0.93, 0.85, 0.99, 0.94), "met"),
        ((0.92, 0.93, 0.84, 0.99, 0.94), "**missed**: worst at least 0.85"),
        ((0.92, 0.929, 0.85, 0.99, 0.94), "**missed**: median at least 0.93"),
        ((0.95, 0.95, 0.95), "met (3 of 5 seeds)"),
    ],
)
def test_targets_are_met_or_missed_by_median_and_worst(tmp_path: Path, values: Any, outcome: str) -> None:
    saved(tmp_path, "a.json", {"ar1": shares(*values)}, FIVE[: len(values)], "training.members=4")
    found = line(tmp_path, "`ar1`")
    assert found["outcome"] == outcome
    assert found["share of the optimum by seed"] == " ".join(f"{value:.2f}" for value in values)
    assert (found["worst"], found["ridge, median"], found["seconds per agent"]) == (f"{min(values):.3f}", "0.60", "11")
    assert found["settings changed"] == "`training.members=4`"


def test_a_training_that_takes_too_long_misses_its_target(tmp_path: Path) -> None:
    saved(tmp_path, "a.json", {"ar1": shares(0.95, 0.95, train_seconds=[100.0, 121.0])}, [0, 1])
    assert line(tmp_path, "`ar1`")["outcome"] == "**missed**: within 120 s (2 of 5 seeds)"


def test_what_was_changed_tells_which_question_was_asked(tmp_path: Path) -> None:
    saved(tmp_path, "a.json", {"lead_lag": shares(0.9, 0.81, 0.79, 0.9, 0.7)}, FIVE)
    saved(tmp_path, "b.json", {"lead_lag": shares(0.1, 0.2, 0.19, 0.0, 0.3)}, FIVE, "network.asset_attention=false")
    assert line(tmp_path, "`lead_lag`")["outcome"] == "met"
    without = line(tmp_path, "`lead_lag` without attention across assets")
    assert (without["median"], without["outcome"]) == ("0.190", "met")


def test_the_same_question_measured_twice_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "a.json", {"ar1": shares(0.5)}, [0])
    saved(tmp_path, "b.json", {"ar1": shares(0.9), "drift": shares(1.0)}, [1])
    with pytest.raises(ValueError, match=r"`b.json` and `a.json` both measured ar1; delete one"):
        read_results(tmp_path.glob("*.json"))


def test_gating_shows_differences_and_is_judged_by_their_interval(tmp_path: Path) -> None:
    more = {"difference": [0.2, 0.1], "mean_difference": 0.15, "interval": [-0.001, 0.301]}
    saved(tmp_path, "a.json", {"regimes": shares(0.9, 0.8, **more)}, [0, 1])
    gated = line(tmp_path, "`regimes` gain of regime experts")
    assert gated["share of the optimum by seed"] == "0.20 0.10; mean 0.150, 95 % interval -0.001 to 0.301"
    assert gated["outcome"] == "**missed**: interval above 0 (2 of 5 seeds)"
    assert line(tmp_path, "`regimes`")["share of the optimum by seed"] == "0.90 0.80"
    more["interval"] = [0.001, 0.3]
    saved(tmp_path, "a.json", {"regimes": shares(0.9, 0.8, **more)}, FIVE)
    assert line(tmp_path, "`regimes` gain of regime experts")["outcome"] == "met"


def test_twenty_assets_are_judged_by_the_lowest_too(tmp_path: Path) -> None:
    lowest = {"lowest_asset_median": 0.29, "lowest_asset_worst": -0.1}
    saved(tmp_path, "a.json", {"assets20": shares(0.8, 0.7, **lowest)}, FIVE)
    found = line(tmp_path, "`assets20`")
    assert found["share of the optimum by seed"] == "0.80 0.70; lowest asset 0.29 (median), -0.10 (worst)"
    assert found["outcome"] == "**missed**: median of every asset at least 0.30"


@pytest.mark.parametrize(
    ("covers", "alone", "seeds", "outcome"),
    [
        (True, 3, 20, "met"),
        (True, 4, 20, "**missed**: at most 3 of 20 significant alone"),
        (False, 0, 20, "**missed**: interval covers 0"),
        (True, 1, 5, "**missed**: at most 3 of 20 significant alone (5 of 20 seeds)"),
    ],
)
def test_noise_is_judged_by_what_it_must_not_earn(
    tmp_path: Path, covers: bool, alone: int, seeds: int, outcome: str
) -> None:
    entry = {"interval": [-4.1e-5, 6.8e-5], "covers_zero": covers, "seeds_significant_alone": alone, "seeds": seeds}
    saved(tmp_path, "a.json", {"noise": entry | {"train_seconds": [9.0]}}, list(range(seeds)))
    found = line(tmp_path, "`noise`")
    assert found["outcome"] == outcome
    said = f"gross profit -0.41 to 0.68 bps a bar; {alone} of {seeds} significant alone"
    assert found["share of the optimum by seed"] == said


@pytest.mark.parametrize(
    ("flat", "seeds", "outcome"),
    [
        (15, 20, "met"),
        (14, 20, "**missed**: at least 15 of 20 stay flat"),
        (3, 4, "met (4 of 20 seeds)"),
        (2, 4, "**missed**: at least 15 of 20 stay flat (4 of 20 seeds)"),
    ],
)
def test_the_gate_is_judged_by_who_stays_flat(tmp_path: Path, flat: int, seeds: int, outcome: str) -> None:
    entry = {"seeds_flat": flat, "seeds": seeds, "train_seconds": [9.0]}
    saved(tmp_path, "a.json", {"noise": entry}, list(range(seeds)), "training.abstention.threshold=1")
    found = line(tmp_path, "`noise` with the abstention gate")
    assert (found["outcome"], found["share of the optimum by seed"]) == (outcome, f"{flat} of {seeds} flat")
    assert line(tmp_path, "`noise`")["outcome"] == "not measured"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="once each"):
        written(learning_report.BEGIN, "| table |\n")
    page = f"before\n{learning_report.BEGIN}\n\nold\n\n{learning_report.END}\nafter\n"
    renewed = written(page, "| table |\n")
    assert renewed == f"before\n{learning_report.BEGIN}\n\n| table |\n\n{learning_report.END}\nafter\n"
    assert written(renewed, "| table |\n") == renewed


def test_seeds_in_a_row_are_written_short() -> None:
    assert [learning_report.span(seeds) for seeds in ([0, 1, 2], [5, 7], [0, 1])] == ["0 to 2", "5 7", "0 1"]
