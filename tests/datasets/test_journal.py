import pytest
import yaml
from kedro.io import DatasetError
from tests.conftest import ROOT

from sentio_kedro.datasets import JournalDataset
from sentio_kedro.trader import events
from sentio_kedro.trader.contract import BarRow
from sentio_kedro.trader.journal.frames import FRAMES
from sentio_kedro.trader.journal.store import Journal

STAMP = "2026-01-02T15:00:00Z"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "09_live" / "replay.sqlite"


def write(path, count=1):
    with Journal(path) as journal:
        for place in range(count):
            row = BarRow(f"2026-01-02T15:{place:02d}:00Z", {"A": {"close": 1.0 + place}}, "iex", 5.0)
            journal.append([events.bar(row, 5.0)])


def test_it_reads_a_frame_also_while_the_trader_writes(path):
    with Journal(path) as journal:
        dataset = JournalDataset(filepath=str(path), frame="bars")
        assert dataset.load().empty
        journal.append([events.bar(BarRow(STAMP, {"A": {"close": 2.0}}, "iex", 5.0), 5.0)])
        assert dataset.load()["close"].tolist() == [2.0]


def test_it_is_never_written_by_a_node(path):
    with pytest.raises(DatasetError, match="Only `kedro trader` writes a journal; a node must not"):
        JournalDataset(filepath=str(path), frame="bars").save("anything")
    assert not path.parent.exists()


def test_what_is_missing_or_damaged_is_told(path):
    dataset = JournalDataset(filepath=str(path), frame="trades")
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"There is no journal `.*`; `kedro trader run` makes one"):
        dataset.load()
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    with pytest.raises(DatasetError, match=r"is damaged \(file is not a database\) and stays as it is"):
        dataset.load()


def test_another_frame_is_refused(path):
    with pytest.raises(
        DatasetError, match=r"`frame` of a JournalDataset must be one of \['accounts', .*, was 'orders'"
    ):
        JournalDataset(filepath=str(path), frame="orders")


def test_the_preview_is_the_newest_rows(path):
    write(path, 12)
    preview = JournalDataset(filepath=str(path), frame="bars").preview(nrows=2)
    assert [row[0] for row in preview["data"]] == ["2026-01-02 15:10:00+00:00", "2026-01-02 15:11:00+00:00"]


def test_the_catalog_has_all_frames_of_the_trader_s_own_journal():
    catalog = yaml.safe_load((ROOT / "conf" / "base" / "catalog.yml").read_text())
    trader = yaml.safe_load((ROOT / "conf" / "base" / "parameters_trader.yml").read_text())["trader"]
    entries = {name: entry for name, entry in catalog.items() if entry["type"].endswith("JournalDataset")}
    assert {name: entry["frame"] for name, entry in entries.items()} == {f"live_{frame}": frame for frame in FRAMES}
    (path,) = {entry["filepath"] for entry in entries.values()}
    assert path == trader["journal"].replace("${.name}", trader["name"])
