"""Commands in forked children of a process that has imported everything, so that a kill costs no start-up."""

from __future__ import annotations

import atexit
import importlib
import os
import pkgutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import click
import psutil
from kedro.framework.cli.cli import KedroCLI

import sentio_kedro

POLL = 0.003  # seconds
FORKABLE = ("jemalloc_bg_thd",)  # pyarrow's allocator, which takes care of forks itself
ALONE = "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"


def import_everything() -> None:
    """Import what commands need, and make sure that forks are safe.

    Raises:
        RuntimeError: If an import began a thread, which a fork would lose.
    """
    for module in pkgutil.walk_packages(sentio_kedro.__path__, "sentio_kedro."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    threads = [name for name in names if name not in FORKABLE]
    if len(threads) > 1:
        raise RuntimeError(f"A process that forks must have 1 thread, had {threads}; run it with `{ALONE}`.")


@dataclass
class Ended:
    """A command that ended or was killed.

    Attributes:
        code: Exit code; -9 if it was killed.
        seconds: Wall clock.
        processor: Seconds of processor time of its process.
        text: What it printed.
    """

    code: int
    seconds: float
    processor: float
    text: str


class Command:
    """A ``kedro`` command under way in a child of its own."""

    def __init__(self, project: Path, arguments: list[str]) -> None:
        """Start ``kedro`` with ``arguments`` in the folder ``project``."""
        self._output = project / f"output_{time.monotonic_ns()}.txt"
        self._began = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _run(project, arguments, self._output)
        self._process = psutil.Process(self._pid)

    def wait(self, kill_after: float | None = None) -> Ended:
        """Wait for the end.

        Args:
            kill_after: Seconds of processor time after which it is killed without warning; None lets it end. Wall
                clock would depend on what else the machine does.
        """
        processor = 0.0
        while True:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                break
            times = self._process.cpu_times()
            processor = times.user + times.system
            if kill_after is not None and processor >= kill_after:
                os.kill(self._pid, signal.SIGKILL)
                kill_after = None
            time.sleep(POLL)
        text = self._output.read_text(errors="replace") if self._output.exists() else ""
        self._output.unlink(missing_ok=True)
        return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - self._began, processor, text)


def _run(project: Path, arguments: list[str], output: Path) -> None:
    """Be the command: the child never returns."""
    code = 1
    try:
        with output.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(project)
        sys.argv = ["kedro", *arguments]
        code = _exit_code(project, arguments)
        atexit._run_exitfuncs()
    except BaseException:  # a child must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code(project: Path, arguments: list[str]) -> int:
    try:
        KedroCLI(project).main(args=arguments, prog_name="kedro")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0
