"""Small files of bars, and a project to adopt them into."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.conftest import ROOT


def walk(stamps: pd.DatetimeIndex, seed: int = 0, start: float = 100.0) -> pd.DataFrame:
    """Bars of a random walk, with the columns that a spreadsheet would have."""
    rng = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(0.01 * rng.standard_normal(len(stamps))))
    open_ = np.concatenate([[start], close[:-1]])
    return pd.DataFrame(
        {
            "timestamp": stamps,
            "open": open_.round(4),
            "high": (np.maximum(open_, close) * 1.002).round(4),
            "low": (np.minimum(open_, close) * 0.998).round(4),
            "close": close.round(4),
            "volume": rng.integers(100_000, 1_000_000, len(stamps)),
        }
    )


def sessions(count: int, start: str = "2024-02-20") -> pd.DatetimeIndex:
    """Weekdays on which New York trades: there is no holiday in the 27 that follow the default."""
    return pd.bdate_range(start, periods=count)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the configuration of the default run, in which commands are typed."""
    shutil.copytree(ROOT / "conf" / "base", tmp_path / "conf" / "base")
    (tmp_path / "conf" / "local").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path
