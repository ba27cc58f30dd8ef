"""Adopt every file of a folder as a newcomer would, and run it: ``python benchmarks/field_files.py FOLDER``.

For each file or folder in FOLDER: ``kedro bars inspect``, ``kedro bars adopt`` with the choices that it prints, in at
most two commands, and the run that it names, with small networks. Prints a line of JSON for each: the format that was
named, commands, exit codes and seconds, and of a refusal its begin.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LONGEST = 600  # seconds of a command
SHOWN = 400  # characters of a refusal


def made_project(folder: Path) -> None:
    """Make a project of the default configuration in ``folder``."""
    shutil.copytree(ROOT / "conf" / "base", folder / "conf" / "base")
    (folder / "conf" / "local").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir()


def typed(project: Path, words: list[str]) -> dict[str, Any]:
    """Type a command of Kedro; returns exit code, seconds and what it printed."""
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own commands
        [sys.executable, "-m", "kedro", *words],
        cwd=project,
        capture_output=True,
        text=True,
        env={**os.environ, "DO_NOT_TRACK": "1"},
        timeout=LONGEST,
        check=False,
    )
    seconds = round(time.perf_counter() - begin, 2)
    return {"code": done.returncode, "seconds": seconds, "out": done.stdout, "err": done.stderr}


def suggested(refusal: str) -> str:
    """Return the command that a refusal prints."""
    return next(line for line in refusal.splitlines() if line.lstrip().startswith("kedro bars adopt"))


def tried(project: Path, path: Path, name: str, run: bool) -> dict[str, Any]:
    """Inspect, adopt and run one file; returns exit codes, seconds and refusals."""
    seen = typed(project, ["bars", "inspect", str(path), "--json"])
    result: dict[str, Any] = {"inspect": seen["code"], "inspect_seconds": seen["seconds"]}
    if seen["code"]:
        return {**result, "refused": seen["err"][:SHOWN]}
    told = json.loads(next(line for line in seen["out"].splitlines() if line.startswith("{")))
    result |= {key: told[key] for key in ("format", "rows", "bar_minutes")}
    result["asked"] = [question["option"] for question in told["questions"]]
    adopted = typed(project, ["bars", "adopt", str(path), "--env", name, "--small"])
    result |= {"adopt_commands": 1, "adopt_seconds": adopted["seconds"]}
    if adopted["code"] and "kedro bars adopt" in adopted["err"]:
        adopted = typed(project, shlex.split(suggested(adopted["err"]))[1:])
        result |= {"adopt_commands": 2, "adopt_seconds": adopted["seconds"]}
    result["adopt"] = adopted["code"]
    if adopted["code"]:
        return {**result, "refused": adopted["err"][:SHOWN]}
    command = next(line for line in adopted["out"].splitlines() if line.startswith("Run: ")).partition("kedro ")[2]
    result["run_command"] = command
    if run:
        ran = typed(project, shlex.split(command))
        result |= {"run": ran["code"], "run_seconds": ran["seconds"]}
        result |= {"refused": ran["err"][-SHOWN:]} if ran["code"] else {}
    return result


def main() -> None:
    """Try every file of the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="names of files that begin so")
    parser.add_argument("--no-run", action="store_true", help="adopt only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        made_project(project)
        paths = sorted(path for path in options.folder.resolve().iterdir() if path.name.startswith(options.only))
        for number, path in enumerate(paths):
            result = tried(project, path, f"field_{number}", not options.no_run)
            print(json.dumps({"file": path.name, **result}), flush=True)


if __name__ == "__main__":
    main()
