"""What was tried stays: records are appended, returns are written once."""

import os

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from sentio_kedro.damage import DamagedFileError
from sentio_kedro.datasets.trials import TrialLedger, TrialLedgerDataset

RECORD = {"identity": "a" * 64, "universe": "BTC / 30 min", "kind": "test", "rows": "r1", "sharpe": 0.1}
RETURNS = pd.DataFrame({"timestamp": pd.date_range("2020-01-01", periods=3, tz="UTC"), "return": [0.1, -0.1, 0.0]})


@pytest.fixture
def ledger(tmp_path):
    return TrialLedgerDataset(filepath=str(tmp_path / "deep")).load()


def test_a_record_names_its_returns_which_come_back_bit_for_bit(ledger):
    ledger.append(RECORD, RETURNS)
    (record,) = ledger.records()
    assert record == {**RECORD, "returns": f"{'a' * 16}-r1"}
    pd.testing.assert_frame_equal(ledger.returns(record["returns"]), RETURNS, check_freq=False)


def test_a_repeat_that_differs_in_its_time_alone_changes_nothing(ledger, tmp_path):
    ledger.append({**RECORD, "time": "today", "levels": (0, 1)}, RETURNS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    again = TrialLedger(tmp_path / "deep")
    again.append({**RECORD, "time": "tomorrow", "levels": (0, 1)}, RETURNS.assign(**{"return": 9.0}))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    assert ledger.returns(f"{'a' * 16}-r1")["return"].tolist() == [0.1, -0.1, 0.0]


def test_a_trial_of_another_run_adds_a_line_and_leaves_the_returns_as_they_were(ledger):
    ledger.append({**RECORD, "run": "a"}, RETURNS)
    ledger.append({**RECORD, "run": "b"}, RETURNS.assign(**{"return": 9.0}))
    assert [record["run"] for record in ledger.records()] == ["a", "b"]
    assert ledger.returns(f"{'a' * 16}-r1")["return"].tolist() == [0.1, -0.1, 0.0]


def test_two_processes_that_keep_the_same_trial_at_once_do_not_collide(ledger, monkeypatch, tmp_path):
    write, first = pd.DataFrame.to_parquet, os.getpid()

    def overtaken(frame, path, **options):
        write(frame, path, **options)
        if os.getpid() == first:
            monkeypatch.setattr(os, "getpid", lambda: first + 1)
            ledger.append(RECORD, RETURNS)  # as another process does before this one is done

    monkeypatch.setattr(pd.DataFrame, "to_parquet", overtaken)
    ledger.append(RECORD, RETURNS)
    assert len(ledger.records()) == 1
    pd.testing.assert_frame_equal(ledger.returns(ledger.records()[0]["returns"]), RETURNS, check_freq=False)
    assert len(list((tmp_path / "deep" / "trial_returns").iterdir())) == 1


def test_a_trial_of_which_no_returns_are_known_names_none(ledger):
    ledger.append(RECORD)
    assert ledger.records()[0]["returns"] is None
    assert ledger.returns("gone") is None


def test_a_record_that_cannot_be_kept_is_refused(ledger):
    with pytest.raises(DatasetError, match="plain and finite"):
        ledger.append({**RECORD, "sharpe": float("nan")}, RETURNS)
    assert ledger.records() == []


def test_a_node_cannot_replace_the_ledger(tmp_path):
    dataset = TrialLedgerDataset(filepath=str(tmp_path))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="one by one"):
        dataset.save(dataset.load())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), r"cannot be read \("),
        (lambda path: path.write_bytes(b""), r"cannot be read \("),
        (lambda path: RETURNS.rename(columns={"return": "profit"}).to_parquet(path), "lacks 'return'"),
        (lambda path: RETURNS.assign(**{"return": "x"}).to_parquet(path), r"cannot be read \(could not convert"),
        (lambda path: RETURNS.assign(**{"return": np.nan}).to_parquet(path), "one finite return for each timestamp"),
        (lambda path: pd.concat([RETURNS, RETURNS]).to_parquet(path), "one finite return for each timestamp"),
    ],
)
def test_returns_that_are_damaged_name_file_fault_and_remedy(ledger, tmp_path, damage, said):
    ledger.append(RECORD, RETURNS)
    (path,) = (tmp_path / "deep" / "trial_returns").iterdir()
    damage(path)
    with pytest.raises(DamagedFileError, match=rf"{path.name}` .*{said}.*; restore it from a copy, or delete it"):
        ledger.returns(path.stem)


def test_a_record_of_another_shape_names_its_line(ledger, tmp_path):
    ledger.append(RECORD)
    with (tmp_path / "deep" / "trials.jsonl").open("a") as file:
        file.write('{"identity": "b"}\n')
    with pytest.raises(DatasetError, match=r"Line 2 of `.*trials.jsonl` has another form .*`universe`: Field required"):
        ledger.records()
