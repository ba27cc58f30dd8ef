"""The README's commands work as a reader types them: a fresh shell, a path with a space, nothing activated."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

import pandas as pd
import pytest
import urllib3
import yaml
from tests.conftest import ROOT
from urllib3.util import Retry

README = (ROOT / "README.md").read_text()
TESTED_ELSEWHERE = (  # by CI itself, tests/test_notebooks.py and tests/benchmarks
    *("make test", "make docs", "make quality"),
    *("make notebooks", "python benchmarks/"),
)
SERVERS = {  # address, and the line that says that it answers
    "make viz": ("http://127.0.0.1:4141/", r"^\s*http://127\.0\.0\.1:4141/\s*$"),
    "make mlflow": ("http://127.0.0.1:5000/", r"Application startup complete"),
}
PATIENCE = 120  # seconds after which a server that does not come up is ended
ENVIRONMENT = Path(sys.prefix)


def code_lines() -> list[str]:
    """Lines of the README's code blocks, without comments."""
    indented = re.findall(r"^    (\S.*)$", README, re.MULTILINE)
    return [line.partition("  #")[0].strip() for line in indented]


def commands() -> list[str]:
    """Commands of the README in order, each once."""
    typed = [line for line in code_lines() if line.startswith(("make ", ".venv/bin/", "python "))]
    return [line for line in dict.fromkeys(typed) if not line.startswith(TESTED_ELSEWHERE)]


def link_environment(path: Path) -> None:
    """Give a clone the present virtual environment as its own; make finds it installed."""
    if not (ENVIRONMENT / "pyvenv.cfg").exists():
        pytest.skip("Needs a virtual environment, such as `make` creates.")
    (path / ".venv").mkdir()
    for name in ("bin", "lib"):
        (path / ".venv" / name).symlink_to(ENVIRONMENT / name)
    shutil.copy(ENVIRONMENT / "pyvenv.cfg", path / ".venv")
    (path / ".venv" / ".installed").touch()  # newer than pyproject.toml


def fresh_shell() -> dict[str, str]:
    """Environment variables of a fresh shell, in which no virtual environment is active."""
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != ENVIRONMENT / "bin"]
    variables = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME")}
    return {**variables, "PATH": os.pathsep.join(folders), "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}


def typed_in(folder: Path, command: str, shell: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Type a command in a folder."""
    return subprocess.run(  # noqa: S602 - our own pages
        command, shell=True, cwd=folder, env=shell, capture_output=True, text=True, check=False
    )


@contextmanager
def running(command: str, folder: Path, shell: dict[str, str], ready: str) -> Iterator[None]:
    """Start a server, wait until it prints ``ready``, and end it with all its children."""
    process = subprocess.Popen(  # noqa: S602 - our own pages
        command,
        shell=True,
        cwd=folder,
        env=shell,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    end = Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
    end.start()
    printed = []
    try:
        for line in process.stdout:
            printed.append(line)
            if re.search(ready, line):
                break
        else:
            pytest.fail("".join(printed))
        yield
    finally:
        end.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone below a folder with a space, its environments cut down to the smoke run's size."""
    path = tmp_path_factory.mktemp("clones") / "my clone"
    (path / "src").mkdir(parents=True)  # the package is the installed one
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, path)
    link_environment(path)
    shutil.copytree(ROOT / "conf", path / "conf", ignore=shutil.ignore_patterns("credentials*"))
    (path / "data" / "01_raw").mkdir(parents=True)
    bars = ROOT / "data" / "01_raw" / "equities_daily.parquet"
    shutil.copy(bars, path / "data" / "01_raw")
    smoke = {file.name: yaml.safe_load(file.read_text()) for file in (path / "conf" / "smoke").glob("parameters_*.yml")}
    frame = pd.read_parquet(bars).query("symbol in ['AAPL', 'NFLX']")
    frame.to_csv(path / "data" / "01_raw" / "mine.csv", index=False)
    shutil.copy(path / "conf" / "smoke" / "catalog.yml", path / "conf" / "end_to_end")
    for name, sections in smoke.items():
        file = path / "conf" / "end_to_end" / name
        own = yaml.safe_load(file.read_text()) if file.exists() else {}
        merged = {key: {**value, **own.get(key, {})} for key, value in sections.items()}
        file.write_text(yaml.safe_dump(merged))
    return path


@pytest.fixture(scope="module")
def shell() -> dict[str, str]:
    return {**fresh_shell(), "KEDRO_ENV": "smoke"}


@pytest.fixture(scope="module")
def typed(clone: Path, shell: dict[str, str]) -> dict[str, "subprocess.CompletedProcess[str]"]:
    """Every command that ends by itself, in order, and what it printed."""
    results = {}
    for command in commands():
        if command not in SERVERS:
            small = command.replace("training.total_steps=800000", "training.total_steps=64")
            small += " --small" if " bars adopt " in small else ""
            results[command] = typed_in(clone, small, shell)
    return results


def test_the_readme_names_its_commands() -> None:
    assert {"make run", "make viz", "make mlflow"} <= set(commands())
    assert sum(" bars " in command for command in commands()) == 2


def test_every_command_that_ends_succeeds(typed: dict[str, "subprocess.CompletedProcess[str]"]) -> None:
    failed = {name: done.stdout[-2000:] + done.stderr[-2000:] for name, done in typed.items() if done.returncode}
    assert failed == {}
    assert len(typed) >= 5


def test_the_commands_leave_the_files_that_the_readme_names(
    clone: Path, typed: dict[str, "subprocess.CompletedProcess[str]"]
) -> None:
    assert (clone / "data" / "smoke" / "08_reporting" / "report.html").is_file()
    assert (clone / "data" / "mine" / "08_reporting" / "report.html").is_file()


def answered(address: str, **request: Any) -> urllib3.BaseHTTPResponse:
    """Ask a server; it may say that it is ready before it listens."""
    patience = Retry(connect=12, backoff_factor=0.1)
    return urllib3.request(request.pop("method", "GET"), address, timeout=PATIENCE, retries=patience, **request)


@pytest.mark.parametrize("command", list(SERVERS))
def test_a_server_starts_and_answers(clone: Path, shell: dict[str, str], typed: object, command: str) -> None:
    address, ready = SERVERS[command]
    with running(command, clone, shell, ready):
        assert answered(address).status == 200
