import errno
import io
import json
import os
import re
from pathlib import Path

import pytest
from kedro.io import DatasetError

from sentio_kedro.atomic import append
from sentio_kedro.datasets.json_lines import LedgerDataset
from sentio_kedro.refusals import refusal_text


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


def test_the_last_record_once_more_is_not_appended(ledger):
    for record in ({"trial": 1}, {"trial": 1}, {"trial": 2}, {"trial": 1}):
        ledger.save(record)
    assert ledger.load() == [{"trial": 1}, {"trial": 2}, {"trial": 1}]


def test_a_line_left_unfinished_costs_no_other_record(ledger, tmp_path, caplog):
    path = tmp_path / "deep" / "trials.jsonl"
    ledger.save({"trial": 1})
    with path.open("ab") as file:
        file.write(b'{"trial": 2, "sha')
    assert ledger.load() == [{"trial": 1}]
    ledger.save({"trial": 3})
    assert ledger.load() == [{"trial": 1}, {"trial": 3}]
    assert "Line 2 of trials.jsonl was never finished" in caplog.text
    assert path.read_bytes() == b'{"trial": 1}\n{"trial": 2, "sha<unfinished>\n{"trial": 3}\n'


def test_a_record_that_lacks_only_the_end_of_its_line_counts(ledger, tmp_path, caplog):
    path = tmp_path / "deep" / "trials.jsonl"
    ledger.save({"trial": 1})
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert ledger.load() == [{"trial": 1}]
    ledger.save({"trial": 2})
    assert ledger.load() == [{"trial": 1}, {"trial": 2}]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"trial": 2, "sha', r"is not whole JSON \(line 1, column 14: Unterminated string"),
        (b"\x00\x00\x00", "is not whole JSON"),
        (b'{"trial": "\xff"}', "is not UTF-8 text"),
        (b"3", "has another form than is saved here"),
        (b"[]", "has another form than is saved here"),
    ],
)
def test_damage_in_the_middle_is_refused_with_line_and_remedy_and_loses_no_record(ledger, tmp_path, line, fault):
    path = tmp_path / "deep" / "trials.jsonl"
    ledger.save({"trial": 1})
    with path.open("ab") as file:
        file.write(line + b"\n")
    ledger.save({"trial": 3})
    with pytest.raises(DatasetError, match=rf"Line 2 of `.*trials.jsonl` {fault}.*Correct it, or restore"):
        ledger.load()


DECISION = {"time": "now", "decision": "kept", "model": "toy", "version": "1", "champion": None, "reasons": []}
OPENED = {
    **{"event": "opened", "opening": "a", "time": "now", "model": "m", "agents": ["fold_0/seed_0"], "bars_hash": "b"},
    **{"symbols": ["BTC"], "first": "2020-01-01T00:00:00Z", "last": "2020-06-01T00:00:00Z"},
}
TRIAL = {"identity": "i", "universe": "BTC / 30 min", "kind": "validation", "rows": "", "sharpe": None, "returns": None}


@pytest.mark.parametrize(
    ("kind", "record", "changes", "said"),
    [
        (
            "decision",
            DECISION,
            {"decision": "rejected"},
            "`decision`: Input should be 'promoted', 'refused'",
        ),
        ("decision", DECISION, {"decision": "rolled_back"}, "a rollback must have `restored`"),
        ("decision", DECISION, {"version": 1}, "`version`: Input should be a valid string"),
        ("decision", DECISION, {"reasons": "none"}, "`reasons`: Input should be a valid array"),
        ("opening", OPENED, {"event": "closed"}, "does not match any of the expected tags: 'opened', 'result'"),
        ("opening", OPENED, {"symbols": None}, "`opened.symbols`: Input should be a valid array"),
        ("opening", OPENED, {"first": "yesterday"}, "`opened.first`: Input should be a valid datetime"),
        ("opening", OPENED, {"event": "result"}, "`result.total_return`: Field required"),
        ("trial", TRIAL, {"universe": "BTC"}, "`universe`: String should match pattern"),
        ("trial", TRIAL, {"kind": "train"}, "`kind`: Input should be 'test' or 'validation'"),
        ("trial", TRIAL, {"sharpe": "high"}, "`sharpe`: Input should be a valid number"),
        ("trial", TRIAL, {"returns": "../../other"}, "`returns`: String should match pattern"),
        ("trial", TRIAL, {"last_timestamp": "2020-01-01T00:00:00+00:00"}, "must have `first_timestamp` and `bars`"),
    ],
)
def test_a_record_of_another_shape_is_neither_saved_nor_loaded(tmp_path, kind, record, changes, said):
    path = tmp_path / "ledger.jsonl"
    ledger = LedgerDataset(filepath=str(path), record=kind)
    ledger.save({**record, "more": [1]})
    assert ledger.load() == [{**record, "more": [1]}]
    before = path.read_bytes()
    with pytest.raises(DatasetError, match=re.escape(said)):
        ledger.save(record | changes)
    assert path.read_bytes() == before
    path.write_bytes(before + json.dumps(record | changes).encode() + b"\n")
    with pytest.raises(DatasetError, match=rf"(?s)Line 2 of `.*ledger.jsonl` .*{re.escape(said)}"):
        ledger.load()


def test_a_full_disk_leaves_the_ledger_as_it_was(ledger, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "trials.jsonl"
    ledger.save({"trial": 1})
    before = path.read_bytes()

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError) as refused:
        ledger.save({"trial": 2})
    assert path.read_bytes() == before
    assert re.match(r"The disk is full: `.*/trials.jsonl` could not be written, ", refusal_text(refused.value))


def test_a_disk_that_takes_half_of_a_record_is_full(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"one\n")

    class Half(io.FileIO):
        def write(self, content):
            return super().write(content[:2])

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: Half(path, mode.replace("b", "")))
    with pytest.raises(OSError, match="No space left"):
        append(path, b"two\n")
    monkeypatch.undo()
    assert path.read_bytes() == b"one\n"


@pytest.mark.parametrize("record", [{"sharpe": float("nan")}, {"figure": object()}])
def test_what_cannot_be_read_back_is_refused_and_nothing_is_appended(ledger, record):
    ledger.save({"trial": 1})
    with pytest.raises(DatasetError, match="must be plain and finite"):
        ledger.save(record)
    assert ledger.load() == [{"trial": 1}]
