"""The same source without a compiler gives the same ledger."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from tests.conftest import ROOT
from tests.trading.cases import Case, random_case

from sentio_kedro.trading.simulate import simulate

SEEDS = (3, 11, 17)
SCRIPT = """
import sys
from pathlib import Path
from tests.trading.test_pure_python import write
write(Path(sys.argv[1]))
"""


def numbers(case: Case) -> dict[str, np.ndarray]:
    """Every field of ledger and accounts after a walk with everything on."""
    accounts = case.accounts.copy()
    ledger = simulate(
        case.market, accounts, case.policies, case.terms, models=case.models, trace=True, layers=True
    )  # fmt: skip
    parts = ledger._asdict() | accounts._asdict()
    fields = {}
    for name, part in parts.items():
        for field in part.dtype.names or [""]:
            fields[f"{name} {field}".strip()] = np.asarray(part[field] if field else part)
    return fields


def write(folder: Path) -> None:
    """Write the numbers of all seeds."""
    for seed in SEEDS:
        np.savez(folder / f"{seed}.npz", **numbers(random_case(seed)))


def test_pure_python_equals_the_compiled_walk(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src"), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    subprocess.run(command, env=environment, check=True, cwd=ROOT)  # noqa: S603 - our own command
    for seed in SEEDS:
        plain, compiled = np.load(tmp_path / f"{seed}.npz"), numbers(random_case(seed))
        assert set(plain.files) == set(compiled)
        assert compiled["fills traded"].any()
        for name, values in compiled.items():
            scale = np.maximum(np.abs(plain[name].astype(float)), 1e4 if values.dtype.kind == "f" else 0.0)
            with np.errstate(invalid="ignore"):
                apart = np.abs(values.astype(float) - plain[name].astype(float)) > 1e-12 * scale
            assert not apart.any(), (seed, name)
            assert (np.isnan(values.astype(float)) == np.isnan(plain[name].astype(float))).all(), (seed, name)
