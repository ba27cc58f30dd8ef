"""Commands of every pipeline killed without warning at random moments and typed again: nothing is lost or doubled.

    OMP_NUM_THREADS=1 python benchmarks/kills.py --kills 50 --seed 0 --json kills.json

A first project runs every command once, uninterrupted. A second one runs the same commands; each is killed by SIGKILL
after a random share of the processor time that it took in the first, and typed again until it ends. After each command
artifacts, ledgers and MLflow of both must be equal. Commands are forked children of a process that has imported
everything. ``--real`` adds kills of processes that start anew. Then two commands at once: default runs in one
environment, promotions, first uses of a tracking store. Prints one JSON object; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from killed.commands import Command, import_everything
from killed.project import ENV, LATER, OTHER, copied_project
from killed.state import Store, artifacts, differences, ledgers, short, store

STAGES = ("ingestion", "features", "cross_validation", "regimes", "forecasting", "training", "backtest", "reporting")
DEFAULT = ["run", f"--env={ENV}"]
COMMANDS: dict[str, list[str]] = {
    "default": DEFAULT,
    **{stage: ["run", f"--env={ENV}", f"--pipeline={stage}"] for stage in STAGES},
    **{name: ["run", f"--env={ENV}", f"--pipeline={name}"] for name in ("signals", "search", "promotion")},
    "default of the other environment": ["run", f"--env={OTHER}"],
    "comparison": ["run", f"--env={ENV}", "--pipeline=comparison"],
    "promotion of the other environment": ["run", f"--env={OTHER}", "--pipeline=promotion"],
    "rollback": ["run", f"--env={ENV}", "--pipeline=rollback"],
    "lockbox": ["run", f"--env={ENV}", "--pipeline=lockbox"],
    "ingestion of later bars": ["run", f"--env={LATER}", "--pipeline=ingestion"],
    "external_test": ["run", f"--env={LATER}", "--pipeline=external_test"],
    "final": ["run", f"--env={OTHER}", "--pipeline=final"],
}
LONG = ("default", "default of the other environment", "training", "search")
KILLS, KILLS_OF_LONG = 2, 4  # of each command in a round
MOST_TYPED = 12  # times that one command is typed
DONE = "there is nothing to roll back to"  # a rollback took effect before it was killed, and is not repeated


@dataclass(frozen=True)
class State:
    """What the commands up to one of them leave."""

    artifacts: dict[str, str]
    ledgers: Counter[str]
    store: Store

    @classmethod
    def of(cls, project: Path) -> State:
        """Read the state of ``project``."""
        data = {
            f"{folder}/{name}": digest
            for folder in (ENV, OTHER, LATER, "registry")
            for name, digest in artifacts(project / "data" / folder).items()
            if not name.endswith(".jsonl")
        }
        return cls(data, ledgers(project / "data" / "registry"), store(project / "mlflow.db"))


@dataclass
class Outcome:
    """Kills of one command and what they left.

    Attributes:
        kills: Moments, shares of the processor time of the uninterrupted command.
        mismatches: Files that differ from those of the uninterrupted command, but for earlier mismatches.
        doubled: Records that are there more often, by their text.
        store: Differences in MLflow, by kind.
        failures: Last lines of commands that failed.
        seconds: Wall clock until the command ended.
    """

    kills: list[float] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    doubled: dict[str, int] = field(default_factory=dict)
    store: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs and nothing failed."""
        return not (self.mismatches or self.doubled or self.store or self.failures)


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--real", type=int, default=3, help="kills of processes that start anew")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="commands to kill; the others run uninterrupted")
    parser.add_argument("--folder", type=Path, help="folder to keep the projects in")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    given = parser.parse_args()
    import_everything()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        began = time.monotonic()
        result = measured(folder, given.kills, given.real, random.Random(given.seed), given.only)  # noqa: S311 - no secret
        result["seconds"] = round(time.monotonic() - began, 1)
    text = json.dumps(result, indent=1)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if result["clean"] else 1)


def measured(folder: Path, kills: int, real: int, draw: random.Random, only: list[str] | None) -> dict[str, Any]:
    """Run both projects and the pairs; return what is printed."""
    warm = copied_project(folder / "warm")  # fills numba's cache, so that the times that follow are those of the work
    uninterrupted(warm, {"default": DEFAULT})
    reference = copied_project(folder / "reference")
    states, processor = uninterrupted(reference, COMMANDS)
    outcomes: dict[str, Outcome] = {name: Outcome() for name in COMMANDS}
    left, number = kills, 0
    while left > 0:
        project = copied_project(folder / f"killed_{number}")
        left -= killed_round(project, states, processor, outcomes, left, draw, only)
        number += 1
    pairs = {} if only is not None else concurrent(folder, reference, states)
    real_outcome = real_kills(folder, states["default"], processor["default"], real, draw)
    clean = all(outcome.is_clean for outcome in [*outcomes.values(), real_outcome])
    return {
        "kills": sum(len(outcome.kills) for outcome in outcomes.values()) + len(real_outcome.kills),
        "clean": clean and all(pair["clean"] for pair in pairs.values()),
        "commands": {name: vars(outcome) for name, outcome in outcomes.items()},
        "processes that start anew": vars(real_outcome),
        "pairs": pairs,
        "processor_seconds": {name: round(seconds, 2) for name, seconds in processor.items()},
    }


def uninterrupted(project: Path, commands: dict[str, list[str]]) -> tuple[dict[str, State], dict[str, float]]:
    """Run each command once; return the state after it and its processor time.

    Raises:
        RuntimeError: If one fails.
    """
    states, processor = {}, {}
    for name, arguments in commands.items():
        ended = Command(project, arguments).wait()
        if ended.code:
            raise RuntimeError(f"`kedro {' '.join(arguments)}` failed without a kill:\n{ended.text[-3000:]}")
        states[name], processor[name] = State.of(project), ended.processor
        print(f"{name}: {ended.seconds:.1f} s, {ended.processor:.1f} s of processor time", file=sys.stderr)
    return states, processor


def killed_round(
    project: Path,
    states: dict[str, State],
    processor: dict[str, float],
    outcomes: dict[str, Outcome],
    left: int,
    draw: random.Random,
    only: list[str] | None,
) -> int:
    """Run each command with kills in ``project`` and add to ``outcomes``; return the number of kills."""
    spent, owed, known = 0, 0, Outcome()
    for name, arguments in COMMANDS.items():
        wanted = 0
        if only is None or name in only:
            wanted = min(owed + (KILLS_OF_LONG if name in LONG else KILLS), left - spent)
        outcome = type_until_it_ends(project, arguments, processor[name], wanted, draw)
        spent += len(outcome.kills)
        owed = wanted - len(outcome.kills) if wanted else owed  # a command that ended before its kill leaves it
        compare(State.of(project), states[name], known, outcome)
        total = outcomes[name]
        for key, value in vars(outcome).items():
            setattr(
                total, key, {**getattr(total, key), **value} if isinstance(value, dict) else getattr(total, key) + value
            )
        print(f"{name}: {len(outcome.kills)} kills, {'clean' if outcome.is_clean else outcome}", file=sys.stderr)
    return spent


def type_until_it_ends(
    project: Path, arguments: list[str], processor: float, wanted: int, draw: random.Random
) -> Outcome:
    """Type a command, kill it up to ``wanted`` times, and type it again until it ends by itself."""
    outcome = Outcome()
    for _ in range(MOST_TYPED):
        share = draw.random() if len(outcome.kills) < wanted else None
        ended = Command(project, arguments).wait(None if share is None else share * processor)
        outcome.seconds = round(outcome.seconds + ended.seconds, 1)
        if ended.code == -signal.SIGKILL and share is not None:
            outcome.kills.append(round(share, 3))
        elif ended.code and outcome.kills and DONE in ended.text:
            break
        elif ended.code:
            outcome.failures.append(ended.text[-600:])
            wanted = 0
            if len(outcome.failures) > 1:
                break
        else:
            break
    return outcome


def compare(found: State, wanted: State, known: Outcome, outcome: Outcome) -> None:
    """Add the differences to ``outcome`` that are not in ``known``, and then to ``known``."""
    mismatches = differences(found.artifacts, wanted.artifacts)
    outcome.mismatches = [name for name in mismatches if name not in known.mismatches]
    known.mismatches = mismatches
    doubled = short(found.ledgers - wanted.ledgers) | {
        f"missing: {text}": count for text, count in short(wanted.ledgers - found.ledgers).items()
    }
    outcome.doubled = {text: count for text, count in doubled.items() if known.doubled.get(text) != count}
    known.doubled = doubled
    kinds = {
        f"{sign}{kind}": dict(more - less)
        for kind in Store._fields
        for sign, more, less in (
            ("+", getattr(found.store, kind), getattr(wanted.store, kind)),
            ("-", getattr(wanted.store, kind), getattr(found.store, kind)),
        )
    }
    outcome.store = {kind: values for kind, values in kinds.items() if values and known.store.get(kind) != values}
    known.store = kinds


def real_kills(folder: Path, wanted: State, processor: float, kills: int, draw: random.Random) -> Outcome:
    """Kill processes that start anew, at random moments of wall clock, then let one end."""
    project, outcome, began = copied_project(folder / "anew"), Outcome(), time.monotonic()
    command = [sys.executable, "-m", "kedro", *DEFAULT]
    while len(outcome.kills) < kills:
        process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command
        share = draw.random()
        try:
            process.wait(share * 2 * processor)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            outcome.kills.append(round(share, 3))
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    outcome.failures += [ended.stderr[-600:]] if ended.returncode else []
    outcome.seconds = round(time.monotonic() - began, 1)
    compare(State.of(project), wanted, Outcome(), outcome)
    return outcome


def concurrent(folder: Path, reference: Path, states: dict[str, State]) -> dict[str, dict[str, Any]]:
    """Run two commands at once, three times: one wins and the other is told, or it waits."""
    one_root = copied_project(folder / "one_root")
    both = pair(one_root, DEFAULT, DEFAULT)
    both |= difference(one_root, states["default"])
    promoting = shutil.copytree(reference, folder / "promoting")
    promotions = pair(promoting, COMMANDS["promotion"], COMMANDS["promotion of the other environment"])
    promotions |= agreement(promoting)
    fresh = copied_project(folder / "fresh")
    for env in (ENV, OTHER):
        shutil.copytree(reference / "data" / env, fresh / "data" / env)
    reporting = [["run", f"--env={env}", "--pipeline=reporting"] for env in (ENV, OTHER)]
    first = pair(fresh, *reporting)
    runs = store(fresh / "mlflow.db").runs
    told = [text for text in first["texts"] if "untracked" in text]
    first |= {"runs": dict(runs), "clean": sum(runs.values()) == first["codes"].count(0) and not told}
    return {"default runs in one root": both, "promotions": promotions, "first use of a store": first}


def pair(project: Path, first: list[str], second: list[str]) -> dict[str, Any]:
    """Run two commands at once; return exit codes and the end of what they printed."""
    commands = [Command(project, first), Command(project, second)]
    # Each is waited for in turn; the other goes on meanwhile.
    ended = [command.wait() for command in commands]
    return {"codes": [one.code for one in ended], "texts": [one.text[-700:] for one in ended]}


def difference(project: Path, wanted: State) -> dict[str, Any]:
    """Compare a project with the state that one of its two commands alone would leave."""
    outcome = Outcome()
    compare(State.of(project), wanted, Outcome(), outcome)
    return {
        "mismatches": outcome.mismatches,
        "doubled": outcome.doubled,
        "store": outcome.store,
        "clean": outcome.is_clean,
    }


def agreement(project: Path) -> dict[str, Any]:
    """Compare the champion with the last decision in the ledger that moved it."""
    lines = (project / "data" / "registry" / "promotions.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    last = [one for one in records if one["decision"] in ("promoted", "rolled_back")][-1]
    champion = last.get("restored", last["version"])
    aliases = dict(store(project / "mlflow.db").aliases)
    return {"aliases": sorted(aliases), "last": last["decision"], "clean": f"champion {champion}" in aliases}


if __name__ == "__main__":
    main()
