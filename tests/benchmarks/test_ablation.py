"""The ablation measures what it names, trains nothing twice, and shows what there is. Nothing is trained here."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ablation
from ablation import Training, digest, document, read, run, settings
from ablation_parts import PARTS, nothing, sides

TINY = "training.total_steps=64"
PARTS_OF_ONE = sum(not part.assets for part in PARTS.values())


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Agents that were asked for; each earns 0.1 less per change that it has."""
    asked: list[Training] = []

    def train(training: Training) -> dict[str, Any]:
        asked.append(training)
        market, known, seed = training.key
        share = 0.9 + 0.01 * seed - 0.1 * len(set(training.changes) - {TINY})
        found = {"market": market, "settings": known, "seed": seed, "changes": list(training.changes), "share": share}
        return found | {"seconds": 9.0 + seed, "code": "0123456789abcdef"}

    monkeypatch.setattr(ablation, "train", train)
    return asked


def typed(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> str:
    """Type the command and return the document."""
    places = ["--results", str(folder / "all" / "ablation.jsonl"), "--output", str(folder / "ablation.md")]
    monkeypatch.setattr("sys.argv", ["ablation.py", *places, *arguments])
    ablation.main()
    return (folder / "ablation.md").read_text()


@pytest.mark.parametrize("name", PARTS)
def test_each_part_is_in_the_defaults_or_not_as_its_row_says(name: str) -> None:
    with_it, without, alone = (digest("lead_lag", side) for side in sides(name))
    assert len({with_it, without, alone, digest("lead_lag", nothing())}) == 4
    shared = digest("lead_lag", PARTS[name].within)  # the defaults, but for what the part acts within
    assert shared == (with_it if PARTS[name].default else without)


def test_what_the_parts_turn_on_is_known_by_all_of_its_settings() -> None:
    assert digest("ar1", ("training.members=3",)) == digest("ar1", ("training.members=3.0", "training.members=3"))
    assert digest("ar1", ("training.members=3",)) != digest("ar1", ("training.members=4",))
    assert digest("reversal", ()) != digest("ar1", ())  # costs differ


def test_a_part_alone_stands_beside_parts_that_are_all_off() -> None:
    off = {name: set(part.off) for name, part in PARTS.items() if part.off}
    for name in PARTS:
        alone = set(sides(name).alone)
        missing = {other for other, changes in off.items() if not changes <= alone}
        assert missing == ({name} if PARTS[name].default else set()), name


def test_parts_that_need_assets_are_left_out_of_a_market_of_one() -> None:
    assert set(settings("lead_lag", [*PARTS], [])) == set(PARTS)
    left = set(PARTS) - set(settings("ar1", [*PARTS], []))
    assert left == {"asset_identity"}
    assert settings("ar1", ["dropout"], [TINY])["dropout"].with_it == (TINY, "network.dropout=0.1")


def test_typing_the_command_again_trains_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: list[Training]
) -> None:
    first = typed(monkeypatch, tmp_path, "--parts", "dropout", "--seeds", "0", "1", "--set", TINY)
    # defaults (which are `without`), nothing, with and alone; two seeds each
    assert len(trained) == len({training.key for training in trained}) == 8
    assert typed(monkeypatch, tmp_path, "--parts", "dropout", "--seeds", "0", "1", "--set", TINY) == first
    assert len(trained) == 8
    typed(monkeypatch, tmp_path, "--parts", "dropout", "weight_decay", "--seeds", "0", "1", "2", "--set", TINY)
    assert len(trained) == 8 + 4 + 2 * 3  # the third seed of what was there, three seeds of two new settings
    typed(monkeypatch, tmp_path, "--parts", "dropout", "--seeds", "0", "--render")
    assert len(trained) == 18


def test_a_run_that_is_stopped_keeps_what_it_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: list[Training]
) -> None:
    path, train = tmp_path / "ablation.jsonl", ablation.train
    wanted = [Training("ar1", (), seed) for seed in range(3)]

    def stopped(training: Training) -> dict[str, Any]:
        if training.seed == 2:
            raise KeyboardInterrupt
        return train(training)

    monkeypatch.setattr(ablation, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(wanted, path, jobs=1, threads=1)
    assert [record["seed"] for record in read(path).values()] == [0, 1]
    monkeypatch.setattr(ablation, "train", train)
    run(wanted, path, jobs=1, threads=1)
    assert [training.seed for training in trained] == [0, 1, 2]


def test_the_document_says_what_was_run_and_with_which_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: list[Training]
) -> None:
    page = typed(monkeypatch, tmp_path, "--parts", "dropout", "entropy", "--seeds", "0", "1", "2", "--set", TINY)
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[2:] for line in page.splitlines() if "| " in line
    }
    assert rows["dropout"] == ["0.81 [0.80, 0.82]", "0.91 [0.90, 0.92]", rows["dropout"][2], "no |"]
    assert rows["entropy"][:2] == ["0.91 [0.90, 0.92]", "0.81 [0.80, 0.82]"]
    assert "weight_decay" not in rows
    assert f"Settings are those of `conf/base`, all changed by `{TINY}`." in page
    assert f"18 agents were trained for 2 of {PARTS_OF_ONE} parts, by code 01234567." in page
    assert "All defaults: 0.91 [0.90, 0.92], 10 s an agent." in page
    assert "market seeds\n0 1 2." in page
    assert len(trained) == 18


def test_cells_with_fewer_seeds_than_asked_for_say_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: list[Training]
) -> None:
    typed(monkeypatch, tmp_path, "--parts", "dropout", "--seeds", "0")
    page = typed(monkeypatch, tmp_path, "--parts", "dropout", "--seeds", "0", "1", "--render")
    assert "| dropout | consistent dropout of 0.1 | 0.80 (1 of 2 seeds) | 0.90 (1 of 2 seeds) |" in page
    assert len(trained) == 4


def test_measurements_of_other_settings_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: list[Training]
) -> None:
    typed(monkeypatch, tmp_path, "--parts", "dropout", "--seeds", "0", "--set", TINY)
    page = typed(monkeypatch, tmp_path, "--seeds", "0", "--render")
    assert "All defaults: not measured." in page
    assert f"0 agents were trained for 0 of {PARTS_OF_ONE} parts" in page
    assert len(trained) == 4


def test_each_market_has_a_table_of_its_own(tmp_path: Path) -> None:
    def record(market: str, share: float) -> dict[str, Any]:
        known = Training(market, (), 0).key[1]
        return {"market": market, "settings": known, "seed": 0, "share": share, "seconds": 9.0, "code": "abc"}

    path = tmp_path / "ablation.jsonl"
    lines = [record("assets20", 0.4), record("ar1", 0.7), record("ar1", 0.8)]  # of two lines the last one counts
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = document(read(path), [0], [])
    ar1, assets20 = page.split("## ")[1:]
    assert ar1.startswith("ar1")
    assert "All defaults: 0.80, 9 s an agent." in ar1
    assert "All defaults: 0.40, 9 s an agent." in assets20


def test_two_at_once_measure_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: list[Training]) -> None:
    pools: list[int] = []

    def threads(jobs: int, *_: object, **__: object) -> ThreadPoolExecutor:  # processes could not see what is patched
        pools.append(jobs)
        return ThreadPoolExecutor(jobs)

    monkeypatch.setattr(ablation, "ProcessPoolExecutor", threads)
    wanted = [Training("ar1", (), seed) for seed in range(5)]
    run(wanted, tmp_path / "one.jsonl", jobs=1, threads=1)
    run(wanted, tmp_path / "two.jsonl", jobs=2, threads=1)
    assert pools == [2]
    assert read(tmp_path / "one.jsonl") == read(tmp_path / "two.jsonl")
    assert len(trained) == 10
