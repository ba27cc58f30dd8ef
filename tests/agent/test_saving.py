"""Descriptions know the files beside them, an index the descriptions."""

import json
import re
from pathlib import Path

import pytest

from sentio_kedro.agent.saving import (
    indexed_folders,
    read_description,
    refuse_non_finite,
    write_description,
    write_index,
)
from sentio_kedro.damage import DamagedFileError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("fold_0/seed_1", "fold_0/seed_0", "fold_1/seed_0"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "agent.json").write_text(name)
    write_index(tmp_path, "agent.json")
    return tmp_path


def told(root: Path) -> str:
    with pytest.raises(DamagedFileError) as damaged:
        indexed_folders(root, "agent.json", "train again")
    return str(damaged.value).replace(f"{root.as_posix()}/", "").replace(root.as_posix(), "agents")


def test_an_index_names_the_folders_and_returns_them_in_order(root: Path) -> None:
    assert list(json.loads((root / "index.json").read_text())) == ["fold_0/seed_0", "fold_0/seed_1", "fold_1/seed_0"]
    assert indexed_folders(root, "agent.json", "") == {
        name: root / name for name in ("fold_0/seed_0", "fold_0/seed_1", "fold_1/seed_0")
    }


def test_missing_added_and_changed_folders_are_told_at_once_by_name(root: Path) -> None:
    (root / "fold_0" / "seed_1" / "agent.json").unlink()
    (root / "fold_1" / "seed_0" / "agent.json").write_text("other")
    (root / "fold_9").mkdir()
    (root / "fold_9" / "agent.json").write_text("")
    assert told(root) == (
        "`agents` is not what was saved and `index.json` names: `fold_0/seed_1` is missing; `fold_9` was added; "
        "`fold_1/seed_0` was changed. Restore it, or train again."
    )


@pytest.mark.parametrize("text", [None, "", "3", '{"fold_0'])
def test_an_index_that_cannot_be_read_is_named(root: Path, text: str | None) -> None:
    path = root / "index.json"
    path.unlink() if text is None else path.write_text(text)
    assert re.match(r"`index.json` (is missing|is not whole JSON|has another form).*; train again", told(root))


def test_every_file_that_a_description_names_is_compared(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "agent.json"
    write_description(path, {"format": 1, "fold": 0}, ["a", "b"])
    assert read_description(path, 1, ["a"], "again") == {"format": 1, "fold": 0}
    (tmp_path / "b").write_text("B")
    with pytest.raises(DamagedFileError, match=r"/b` is not the file that was saved: its SHA-256 is"):
        read_description(path, 1, ["a"], "again")
    (tmp_path / "b").unlink()
    with pytest.raises(DamagedFileError, match=r"/b` is missing; again"):
        read_description(path, 1, ["a"], "again")
    with pytest.raises(DamagedFileError, match=r"has format 1, this version reads 2; again\."):
        read_description(path, 2, ["a"], "again")


def test_three_names_stand_for_all_that_are_not_finite() -> None:
    refuse_non_finite("It", [], "")
    with pytest.raises(
        DamagedFileError, match=r"^It must hold finite numbers, had others in 4 arrays \(a, b, c\); stop\.$"
    ):
        refuse_non_finite("It", ["d", "c", "b", "a"], "stop")
