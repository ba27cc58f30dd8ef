import pytest
from kedro.io import DatasetError

from sentio_kedro.datasets.json_lines import LedgerDataset


@pytest.fixture
def ledger(tmp_path):
    return LedgerDataset(filepath=str(tmp_path / "deep" / "trials.jsonl"))


def test_nothing_is_known_before_the_first_record(ledger):
    assert ledger.load() == []
    assert not ledger.exists()


def test_records_add_up_in_order_and_earlier_bytes_stay(ledger, tmp_path):
    path = tmp_path / "deep" / "trials.jsonl"
    ledger.save({"trial": 1, "sharpe": 0.1})
    before = path.read_bytes()
    LedgerDataset(filepath=str(path)).save({"trial": 2, "sharpe": None})
    assert ledger.load() == [{"trial": 1, "sharpe": 0.1}, {"trial": 2, "sharpe": None}]
    assert path.read_bytes().startswith(before)


def test_a_line_left_unfinished_costs_no_other_record(ledger, tmp_path, caplog):
    path = tmp_path / "deep" / "trials.jsonl"
    ledger.save({"trial": 1})
    with path.open("ab") as file:
        file.write(b'{"trial": 2, "sha')
    assert ledger.load() == [{"trial": 1}]
    ledger.save({"trial": 3})
    assert ledger.load() == [{"trial": 1}, {"trial": 3}]
    assert "Line 2 of trials.jsonl was never finished" in caplog.text


@pytest.mark.parametrize("record", [{"sharpe": float("nan")}, {"figure": object()}])
def test_what_cannot_be_read_back_is_refused_and_nothing_is_appended(ledger, record):
    ledger.save({"trial": 1})
    with pytest.raises(DatasetError, match="must be plain and finite"):
        ledger.save(record)
    assert ledger.load() == [{"trial": 1}]
