"""A small project of its own for each test that runs pipelines."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.framework.project import configure_project
from kedro.framework.session import KedroSession
from kedro.runner import AbstractRunner

ROOT = Path(__file__).parents[1]
LONGEST = ("test_tutorial.py", "test_run.py", "test_browser.py", "test_study.py", "test_notebooks.py")

os.environ["DO_NOT_TRACK"] = "1"  # Kedro's telemetry stays quiet in projects made by tests, too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread, which is faster for tensors of a few numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def synthetic_bars(bars: int = 900, symbols: tuple[str, ...] = ("AAA", "BBB"), seed: int = 0) -> pd.DataFrame:
    """Daily bars of random walks that alternate between calm and wild quarters."""
    rng = np.random.default_rng(seed)
    timestamps = pd.date_range("2015-01-01", periods=bars, freq="D", tz="UTC")
    scale = np.where(np.arange(bars) // 60 % 2, 0.02, 0.005)
    frames = []
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(scale * rng.standard_normal(bars)))
        open_ = np.concatenate([[100.0], close[:-1]])
        spread = 1 + 0.002 * rng.random(bars)
        frames.append(
            pd.DataFrame(
                {
                    "timestamp": timestamps,
                    "symbol": symbol,
                    "open": open_,
                    "high": np.maximum(open_, close) * spread,
                    "low": np.minimum(open_, close) / spread,
                    "close": close,
                    "volume": 1e6 * (1 + rng.random(bars)),
                }
            )
        )
    return pd.concat(frames).sort_values(["timestamp", "symbol"], ignore_index=True)


@dataclass
class Project:
    """A copy of the configuration whose environment `tiny` reads synthetic bars and keeps artifacts to itself."""

    path: Path
    env: str = "tiny"
    params: dict[str, Any] = field(default_factory=dict)

    def session(self, **params: Any) -> KedroSession:
        configure_project("sentio_kedro")
        given = {**self.params, **params}
        return KedroSession.create(project_path=self.path, env=self.env, runtime_params=given or None)

    def run(self, *pipelines: str, runner: AbstractRunner | None = None, **options: Any) -> dict[str, Any]:
        params = options.pop("params", {})
        with self.session(**params) as session:
            return session.run(pipeline_names=list(pipelines) or None, runner=runner, **options)

    def catalog(self) -> Any:
        with self.session() as session:
            return session.load_context().catalog

    def artifact(self, name: str) -> Path:
        return self.path / "data" / self.env / name

    def kedro(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Type a command in the project's folder, with more environment variables if given."""
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "kedro", *arguments],
            cwd=self.path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def copy(self, path: Path) -> "Project":
        """Copy configuration, bars and artifacts; MLflow's artifacts stay where they are."""
        shutil.copytree(self.path, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlartifacts"))
        return Project(path, self.env, dict(self.params))

    def write_bars(self, frame: pd.DataFrame) -> None:
        target = self.path / "data" / "01_raw" / "bars.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(target)


def snapshot(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, and the names of its folders; locks apart."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
        if path.suffix != ".lock"
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke run as users type it, in a folder of its own. Read only: change a copy of it."""
    made = Project(tmp_path_factory.mktemp("finished"), env="smoke")
    shutil.copytree(ROOT / "conf", made.path / "conf", ignore=shutil.ignore_patterns("credentials*"))
    shutil.copy(ROOT / "pyproject.toml", made.path)
    (made.path / "src").mkdir()  # the package is the installed one
    (made.path / "data" / "01_raw").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "01_raw" / "equities_daily.parquet", made.path / "data" / "01_raw")
    ran = made.kedro("run", "--env=smoke")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return made


@pytest.fixture
def make_bars() -> Callable[..., pd.DataFrame]:
    return synthetic_bars


@pytest.fixture
def bars() -> pd.DataFrame:
    return synthetic_bars()


@pytest.fixture
def project(tmp_path: Path, bars: pd.DataFrame) -> Project:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("credentials*"))
    shutil.copytree(ROOT / "conf" / "smoke", tmp_path / "conf" / "tiny")
    (tmp_path / "conf" / "tiny" / "globals.yml").write_text("artifacts: data/tiny\nexperiment: tiny\n")
    (tmp_path / "conf" / "tiny" / "catalog.yml").write_text(
        "bars:\n  type: pandas.ParquetDataset\n  filepath: data/01_raw/bars.parquet\n"
    )
    made = Project(tmp_path)
    made.write_bars(bars)
    return made
