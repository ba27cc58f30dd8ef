"""The walk on a GPU equals the compiled one: in numba's simulator, as code of NVIDIA's compiler, and on a card."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import ROOT
from tests.trading.cases import random_market

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading import simulate as simulate_module
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.records import Accounts, Market, Terms
from sentio_kedro.trading.simulate import make_ledger, make_scratch, simulate, walks_on
from sentio_kedro.trading.step.policies import (
    ACCOUNT_FEATURES,
    HEADS,
    LANES,
    SAMPLED,
    TARGETS,
    Heads,
    Policies,
    make_policies,
    with_heads,
)
from sentio_kedro.trading.step.walk import Route

ASSETS, LEVELS, HIDDEN, MEMBERS, STEPS = 3, 5, 8, 2, 20
KINDS = np.array([HEADS, SAMPLED, SAMPLED, TARGETS, TARGETS])
ROWS = np.array([np.r_[0:8, 5:17], np.arange(STEPS)])  # the first path jumps back
TRADING = TradingParameters(
    preset="realistic",
    levels=[-1.0, -0.5, 0.0, 0.5, 1.0],
    calendar="XNYS",
    orders={"latency_bars": 1},  # type: ignore[arg-type]
)
NEEDS_CARD = pytest.mark.skipif(
    not torch.cuda.is_available() or find_spec("numba_cuda") is None, reason="needs a GPU and numba-cuda"
)
NEEDS_COMPILER = pytest.mark.skipif(find_spec("numba_cuda") is None, reason="needs numba-cuda with NVIDIA's compiler")
SCRIPT = """
import sys
from pathlib import Path
import torch
from tests.trading.step.test_gpu_walk import numbers
import numpy as np
np.savez(sys.argv[1], **numbers(torch.device("cpu")))
"""


def case() -> tuple[Market, Accounts, Terms, Policies]:
    """Two accounts per network or table, with a latency, of which one decides by networks of two members."""
    rng = np.random.default_rng(5)
    size = len(KINDS)
    terms = terms_of(TRADING, ASSETS)
    targets = rng.choice(terms.levels, (STEPS, 2, ASSETS)) / ASSETS
    policies = make_policies(
        KINDS,
        ASSETS,
        LEVELS,
        source=np.array([0, 0, 1, 0, 1]),
        draws=np.arange(size),
        starts=np.array([0, 0, 2, 0, 0]),
        closes=np.array([99, 99, 99, 99, 15]),
        targets=targets,
        noise=rng.gumbel(size=(STEPS, size, ASSETS, LEVELS)),
    )
    heads = Heads(
        projected=rng.normal(size=(STEPS, 2, MEMBERS, ASSETS, HIDDEN)),
        account_weight=rng.normal(size=(2, MEMBERS, ACCOUNT_FEATURES, HIDDEN)),
        policy_weight=rng.normal(size=(1, 2, MEMBERS, HIDDEN, LANES * -(-LEVELS // LANES))),
        policy_bias=rng.normal(size=(1, 2, MEMBERS, LEVELS)),
        fixed_level=np.full(2, np.nan),
        masked=np.ones(1, np.bool_),
    )
    market = random_market(rng, ASSETS)
    return market, open_accounts(size, ASSETS, TRADING), terms, with_heads(policies, heads)


def numbers(device: torch.device | None) -> dict[str, np.ndarray]:
    """Every field of ledger and accounts after a walk, on a device or compiled for the CPU."""
    market, accounts, terms, policies = case()
    if device is not None:
        moved = {name: torch.from_numpy(getattr(policies, name)).to(device) for name in ("projected", "noise")}
        policies = policies._replace(**moved)
    paths, models = np.array([0, 1, 0, 1, 0]), np.array([0, 1, 1, 0, 0])
    ledger = simulate(market, accounts, policies, terms, ROWS, paths, models, trace=True, layers=True)
    fields = {}
    for name, part in (ledger._asdict() | accounts._asdict()).items():
        for field in part.dtype.names or [""]:
            fields[f"{name} {field}".strip()] = np.asarray(part[field] if field else part)
    return fields


def require_equal(walked: Any, expected: dict[str, np.ndarray]) -> None:
    assert set(walked) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(walked[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_accounts_of_every_kind_trade_in_the_case() -> None:
    fields = numbers(None)
    assert (fields["fills traded"] > 0.0).any(axis=(0, 2)).all()
    assert set(fields["actions"][:, KINDS != TARGETS].ravel()) >= set(range(LEVELS))


def test_the_simulated_kernel_equals_the_compiled_walk(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src"), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "walked.npz")]
    subprocess.run(command, env=environment, check=True, cwd=ROOT)  # noqa: S603 - our own command
    require_equal(np.load(tmp_path / "walked.npz"), numbers(None))


@NEEDS_COMPILER
def test_the_kernel_compiles_rounds_separately_and_takes_few_enough_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba import cuda  # noqa: PLC0415
    from numba.cuda import dispatcher  # noqa: PLC0415

    from sentio_kedro.trading.step import gpu_walk  # noqa: PLC0415

    card = SimpleNamespace(compute_capability=(8, 0))
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: card)  # whose architecture the callees ask for
    market, accounts, terms, policies = case()
    ledger = make_ledger(STEPS, accounts, LEVELS, fills=True, trace=True, layers=True)
    route = Route(ROWS, np.zeros(5, np.int64), np.zeros(5, np.int64), 0)
    arguments = (route, market, accounts, terms, policies, make_scratch(accounts, LEVELS, HIDDEN), ledger)
    types = tuple(gpu_walk._kernel.typeof_pyval(argument) for argument in arguments)
    with gpu_walk.rounded_separately():
        code, _ = cuda.compile(gpu_walk.walk_thread, types, device=False, abi="numba", cc=(8, 0))
    assert len(re.findall(r"\b(mul|add|sub)\.rn\.f64\b", code)) > 1000
    assert not re.findall(r"\b(mul|add|sub)\.f64\b", code)  # which may be contracted
    assert not re.findall(r"\.call\b", code)
    parameters = code[code.index(".entry") : code.index("{")]
    assert 8 * len(re.findall(r"\.param \.u64\b", parameters)) <= 4096  # bytes, on every driver


@pytest.mark.gpu
@NEEDS_CARD
def test_the_walk_on_a_card_equals_the_compiled_walk() -> None:
    require_equal(numbers(torch.device("cuda")), numbers(None))


def test_accounts_walk_on_a_gpu_with_numba_cuda_and_a_warning_says_once_that_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    card = torch.device("cuda", 0)
    for spec, expected in ((None, False), (object(), True)):
        walks_on.cache_clear()
        monkeypatch.setattr(simulate_module, "find_spec", lambda name, spec=spec: spec)
        assert [walks_on(card), walks_on(card), walks_on(torch.device("cpu"))] == [expected, expected, False]
    assert ["sentio_kedro[gpu]" in record.message for record in caplog.records] == [True]
    walks_on.cache_clear()
