from pathlib import Path
from tempfile import TemporaryDirectory

from stub_agents import BAR, START

from sentio_kedro.trader.clock import stamp_of
from trader_soak import soak

DAY = 1_440


def test_a_day_of_minutes_leaves_memory_and_open_files_as_they_were():
    memory = Path("/dev/shm")  # noqa: S108 - waiting for disks shows nothing here
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        found = soak(Path(folder), DAY, ("A",))
    assert (found["mode"], found["closed"]) == ("active", stamp_of(START + DAY * BAR))
    assert found["memory_growth_mb"] < 10.0
    assert len(found["open_files"]) == 1
    assert found["journal_bytes_a_bar"] < 3_000
