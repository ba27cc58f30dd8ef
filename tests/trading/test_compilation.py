"""The cache of compiled code: an edit anywhere starts a new folder, and no folder of the package is required."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sentio_kedro.trading.compilation import COMPILED, PACKAGE, cache_folder, sources_hash

CALL = """
from sentio_kedro.trading.step.orders import drop_increases
from sentio_kedro.trading.records import LIMIT, records
limits = records((1,), LIMIT)
limits.position, limits.target = 0.9, 1.0
print(drop_increases(limits, 0.5, 0.25))
"""
TWICE = """
import numpy as np
from numba import prange
from sentio_kedro.trading.compilation import compiled_twice

def _double(values):
    for n in prange(len(values)):
        values[n] *= 2.0

for run in compiled_twice(_double):
    values = np.arange(4.0)
    run(values)
    assert values.tolist() == [0.0, 2.0, 4.0, 6.0]
    print("cached" if sum(run.stats.cache_hits.values()) else "compiled")
"""
compiles = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
BAND = "abs(target - position) <= band * abs(target)"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "src" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__")))


def edit(package: Path) -> None:
    """Turn a comparison round in a function of another file than that of its caller."""
    path = package / "trading" / "step" / "limits.py"
    source = path.read_text()
    assert source.count(BAND) == 1
    path.write_text(source.replace(BAND, BAND.replace("<=", ">")))


def test_an_edit_of_any_compiled_source_changes_the_folder(package: Path, tmp_path: Path) -> None:
    before = cache_folder(package, tmp_path)
    assert before.parent == package / "__pycache__"
    assert before == cache_folder(package, tmp_path)
    edit(package)
    after = cache_folder(package, tmp_path)
    assert after != before
    (package / "config" / "trading.py").write_text("# nothing that is compiled\n")
    assert cache_folder(package, tmp_path) == after
    assert sources_hash(package / part for part in COMPILED) in after.name


def test_a_package_that_cannot_be_written_is_compiled_below_home(package: Path, tmp_path: Path) -> None:
    (package / "__pycache__").write_text("a file: no folder can be made in it")
    home = tmp_path / "home"
    assert cache_folder(package, home).parent == home / ".cache" / "sentio_kedro"
    home_file = tmp_path / "no_home"
    home_file.write_text("")
    assert cache_folder(package, home_file).is_dir()  # a temporary folder


@compiles
def test_one_function_for_one_thread_and_for_all_is_cached_under_two_names(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(TWICE)
    environment = os.environ | {"PYTHONPATH": f"{PACKAGE.parent}", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    answers = [
        subprocess.run(
            [sys.executable, "twice.py"], env=environment, check=True, cwd=tmp_path, capture_output=True, text=True
        ).stdout.split()
        for _ in range(3)
    ]
    assert answers == [["compiled", "compiled"], ["cached", "cached"], ["cached", "cached"]]
    assert len(list((tmp_path / "cache").rglob("*.nbi"))) == 2


@compiles
def test_an_edit_of_a_callee_changes_what_its_cached_caller_returns(package: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(package.parent), "HOME": str(tmp_path)}
    answers = []
    for change in (False, False, True):
        if change:
            edit(package)
        ran = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-c", CALL], env=environment, check=True, cwd=tmp_path, capture_output=True, text=True
        )
        answers.append(ran.stdout.strip())
        folders = list((package / "__pycache__").glob("numba-*"))
        assert len(folders) == 1 + change
        assert all(any(folder.rglob("*.nbi")) for folder in folders)
    assert answers == ["True", "True", "False"]
