"""Generated parameter files, bar files and damaged artifacts: accepted and right, or refused before work and readable.

    OMP_NUM_THREADS=1 python benchmarks/hostile.py --examples 1000 --seed 0 --json hostile.json

Half of the examples are parameters, a third bar files, the rest damages to the artifacts of a finished project, each
before a pipeline that reads the file. Prints one JSON object: accepted, refused, the slowest refusal, and every fault
with its number and its shortest example; exit code 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from hostile_inputs.artifacts import damages
from hostile_inputs.bars import hostile_bars
from hostile_inputs.parameters import WRONG_GLOBALS, hostile_parameters
from hostile_inputs.projects import HostileProject, inside, small_bars
from hostile_inputs.trials import Trial

SHARES = {"parameters": 0.5, "bars": 0.3, "damages": 0.2}
"""Shares of the examples; all wrong ``globals.yml`` come besides."""
LONGEST = 400  # characters of a text that is printed


@dataclass
class Count:
    """What became of the examples of one kind.

    Attributes:
        accepted: Inputs that a run would work with.
        refused: Inputs that it refused.
        slowest: Seconds of the slowest refusal.
        faults: Number and shortest example of each fault.
    """

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, trial: Trial, faults: list[str]) -> None:
        """Count one example."""
        self.accepted += trial.error is None
        self.refused += trial.error is not None
        if trial.error is not None:
            self.slowest = round(max(self.slowest, trial.seconds), 2)
        for fault in faults:
            known = self.faults.setdefault(fault, {"count": 0, "example": name, "text": _text(trial)})
            known["count"] += 1
            if len(name) < len(known["example"]):
                known |= {"example": name, "text": _text(trial)}


def _text(trial: Trial) -> str | None:
    return None if trial.error is None else f"{type(trial.error).__name__}: {trial.text or trial.error}"[:LONGEST]


def main() -> None:
    """Try all examples and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--finished", type=Path, help="a finished project of the environment `hostile`")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    began, counts = time.monotonic(), {kind: Count() for kind in options.kinds}
    with tempfile.TemporaryDirectory() as scratch:
        for kind, count in counts.items():
            path = options.finished if kind == "damages" and options.finished else Path(scratch) / kind
            project = HostileProject.made(path) if not path.exists() else HostileProject.of(path, "hostile")
            with inside(path):
                if kind == "damages" and not options.finished:
                    subprocess.run([sys.executable, "-m", "kedro", "run", "--env=hostile"], check=True)
                strategy, attempt = trying(kind, project)
                if kind == "parameters":
                    for name in WRONG_GLOBALS:
                        count.add(f"globals.yml: {name}", *project.try_globals(name))
                try_all(strategy, attempt, count, max(1, int(options.examples * SHARES[kind])), options.seed)
    result = {kind: vars(count) for kind, count in counts.items()} | {"seconds": round(time.monotonic() - began, 1)}
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(1 if any(count.faults for count in counts.values()) else 0)


Attempt = Callable[[Any], tuple[str, Trial, list[str]]]


def trying(kind: str, project: HostileProject) -> tuple[st.SearchStrategy[Any], Attempt]:
    """Return the examples of a kind, and what tries one: its name, the trial, its faults."""
    if kind == "parameters":
        return hostile_parameters(project.configuration["parameters"]), lambda example: (
            example[1].input,
            *project.try_parameters(*example),
        )
    if kind == "bars":
        return hostile_bars(small_bars()), lambda example: (example.name, *project.try_bars(example))
    return damages(project.files_read()), lambda example: (example.expected.input, *project.try_damage(example))


def try_all(strategy: st.SearchStrategy[Any], attempt: Attempt, count: Count, examples: int, root: int) -> None:
    """Try ``examples`` of ``strategy`` and count what became of them."""

    @seed(root)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(example: Any) -> None:
        count.add(*attempt(example))

    one()


if __name__ == "__main__":
    main()
