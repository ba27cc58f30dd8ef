import json
import os
import re
from threading import Timer

import pytest

from sentio_kedro.locks import LockedError, held_locks, lock_of, writer_of


def test_a_second_writer_is_told_of_the_first(tmp_path):
    folder = tmp_path / "artifacts"
    with held_locks([folder], "kedro run: training"):
        told = rf"`artifacts` must have one writer .* process {os.getpid()} on .* \(`kedro run: training`\) since 20"
        with pytest.raises(LockedError, match=told):
            held_locks([folder], "kedro run: backtest")
    held_locks([folder], "kedro run: backtest").close()
    assert not folder.exists()


def test_a_lock_of_a_process_that_is_gone_is_free(tmp_path):
    child = os.fork()
    if child == 0:
        held_locks([tmp_path / "artifacts"], "kedro run: training")
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(lock_of(tmp_path / "artifacts").read_text())["process"] == child
    held_locks([tmp_path / "artifacts"], "kedro run: training").close()


def test_either_all_folders_are_locked_or_none(tmp_path):
    with held_locks([tmp_path / "registry"], "kedro run: promotion"):
        with pytest.raises(LockedError, match="`registry`"):
            held_locks([tmp_path / "artifacts", tmp_path / "registry"], "kedro run: rollback")
        held_locks([tmp_path / "artifacts"], "kedro run: rollback").close()


def test_a_lock_without_a_readable_owner_is_a_lock(tmp_path):
    with held_locks([tmp_path / "artifacts"], "kedro run: training"):
        lock_of(tmp_path / "artifacts").write_text("[]")
        with pytest.raises(LockedError, match="is written by another process;"):
            held_locks([tmp_path / "artifacts"], "kedro run: backtest")


def test_who_writes_is_asked_without_a_trace(tmp_path):
    assert writer_of(tmp_path / "artifacts") is None
    assert list(tmp_path.iterdir()) == []
    with held_locks([tmp_path / "artifacts"], "kedro run: training"):
        assert re.fullmatch(
            rf"process {os.getpid()} on .* \(`kedro run: training`\) since 20.*", writer_of(tmp_path / "artifacts")
        )
    assert writer_of(tmp_path / "artifacts") is None


def test_a_lock_is_waited_for_with_patience(tmp_path):
    held = held_locks([tmp_path / "artifacts"], "kedro run: training")
    Timer(0.05, held.close).start()
    held_locks([tmp_path / "artifacts"], "kedro run: backtest", patience=10.0).close()
