from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest

from sentio_kedro.store import StoredBars


def stored_bars(symbols: str = "AB", days: int = 3, first: str = "2024-01-02", close: float = 10.0) -> pd.DataFrame:
    """Daily bars that end at 21:00 UTC; symbol number ``s`` closes at ``close + s + day / 4``."""
    frames = []
    for place, symbol in enumerate(symbols):
        price = close + place + np.arange(days) / 4
        ends = pd.date_range(f"{first} 21:00", periods=days, freq="D", tz="UTC")
        frames.append(
            pd.DataFrame(
                {"timestamp": ends, "symbol": symbol, "open": price, "high": price + 1, "low": price - 1}
                | {"close": price, "volume": 100.0}
            )
        )
    return pd.concat(frames, ignore_index=True)


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents by name, locks left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoredBars]:
    """An empty store, in a folder and on a file system without rename."""
    yield StoredBars(str(tmp_path / "store") if request.param == "local" else "memory://store")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def bars() -> Callable[..., pd.DataFrame]:
    """``stored_bars``."""
    return stored_bars


@pytest.fixture
def files() -> Callable[[Path], dict[str, bytes]]:
    """``files_of``."""
    return files_of
