"""``kedro trader watch`` as it is typed: serves, tells, hides secrets, and stops when asked."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from journals import Author, write

from sentio_kedro.trader.journal.store import Journal

SECRET = "hunter2-token"  # noqa: S105 - planted


def get(address):
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own server
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_the_command_serves_the_journal_of_its_environment_and_stops_when_asked(project):
    journal = project.artifact("09_live/replay.sqlite")
    journal.parent.mkdir(parents=True)
    write(journal, 5, Author(mode="replay"))
    shutil.copy(Path(__file__).parents[3] / "pyproject.toml", project.path)
    (project.path / "src").mkdir()  # the package is the installed one
    (project.path / "conf" / "local").mkdir(exist_ok=True)
    (project.path / "conf" / "local" / "credentials.yml").write_text(f"pager: {{url: 'json://127.0.0.1:9/{SECRET}'}}\n")
    settings = project.path / "conf" / "tiny" / "parameters_trader.yml"
    settings.write_text("trader: {watch: {notify: [pager], port: 0}}\n")
    command = [sys.executable, "-m", "kedro", "trader", "watch", "--env=tiny"]
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=project.path, env={**os.environ, "PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    told, address = [], None
    while address is None and (line := process.stdout.readline()):
        told.append(line)
        address = re.search(r"Watching replay.sqlite at (http://127.0.0.1:\d+)/", line)
    assert address, "".join(told)
    try:
        with Journal(journal) as trader:  # which the watch does not keep from writing
            trader.append([])
        pages = [get(address[1] + path) for path in ("/", "/status.json", "/metrics", "/healthz")]
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert [status for status, _ in pages] == [200] * 4
    assert json.loads(pages[1][1])["trader"] == "replay"
    assert "kedro trader halt --env=tiny" in pages[0][1]
    memory = journal.with_name("replay.sqlite.watch.json").read_text()
    assert SECRET not in "".join(told) + rest + memory + "".join(text for _, text in pages)
    assert "pager" in memory
