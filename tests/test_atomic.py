import errno
import os
from pathlib import Path

import pytest

from sentio_kedro.atomic import replaced_file, replaced_folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with replaced_file(target) as partial:
        partial.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert files(tmp_path) == ["new/a.txt"]


def test_crash_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced_file(target) as partial:
        partial.write_text("new, but only ha")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert files(tmp_path) == ["a.txt"]


def test_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "agents"
    target.mkdir()
    (target / "stale").write_text("of an earlier training")
    with replaced_folder(target) as partial:
        (partial / "fresh").write_text("1")
        assert files(target) == ["stale"]
    assert files(tmp_path) == ["agents/fresh"]


def test_crash_while_filling_a_folder_keeps_the_old_one(tmp_path):
    target = tmp_path / "agents"
    target.mkdir()
    (target / "stale").write_text("kept")
    with pytest.raises(RuntimeError), replaced_folder(target) as partial:
        (partial / "fresh").write_text("1")
        raise RuntimeError
    assert files(tmp_path) == ["agents/stale"]


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path):
    target = tmp_path / "agents"
    leftover = tmp_path / ".partial.agents"
    leftover.mkdir()
    (leftover / "half").write_text("")
    with replaced_folder(target) as partial:
        (partial / "fresh").write_text("1")
    assert files(tmp_path) == ["agents/fresh"]


def full_disk(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def torn(*args: object, **kwargs: object) -> None:
    raise RuntimeError("I/O error: No space left on device (os error 28)")  # as safetensors says it


@pytest.mark.parametrize("failing", [full_disk, torn])
@pytest.mark.parametrize("when", ["writing", "flushing"])
def test_a_full_disk_leaves_the_old_file_and_is_named_once(tmp_path, monkeypatch, failing, when):
    target = tmp_path / "a.txt"
    target.write_text("old")
    if when == "flushing":
        monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="No space left") as full, replaced_file(target) as partial:
        partial.write_text("ne")
        if when == "writing":
            failing()
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(target))
    assert (files(tmp_path), target.read_text()) == (["a.txt"], "old")


@pytest.mark.parametrize("failing", [full_disk, torn])
@pytest.mark.parametrize("when", ["writing", "flushing", "renaming"])
def test_a_full_disk_leaves_the_old_folder(tmp_path, monkeypatch, failing, when):
    target = tmp_path / "agents"
    target.mkdir()
    (target / "kept").write_text("old")
    replace = os.replace
    if when == "flushing":
        monkeypatch.setattr(os, "fsync", failing)
    if when == "renaming":  # the old folder is aside already
        monkeypatch.setattr(os, "replace", lambda a, b: failing() if ".partial" in str(a) else replace(a, b))
    with pytest.raises(OSError, match="No space left") as full, replaced_folder(target) as partial:
        (partial / "fresh").write_text("1")
        if when == "writing":
            failing()
    assert full.value.filename == str(target)
    assert files(tmp_path) == ["agents/kept"]


def test_another_error_of_the_system_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="Input/output") as broken, replaced_file(tmp_path / "a.txt"):
        raise OSError(errno.EIO, "Input/output error")
    assert broken.value.filename is None
