"""The compiled step: what the eager one says, or the eager one and a word why."""

import logging
import shutil
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.ppo.compiled import CompiledStep
from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import AccountState, Decision, open_accounts
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.simulate import Advance, PolicyTrace, Step, advance, simulate
from sentio_kedro.trading.step_data import StepData, level_table

DOUBLE = torch.float64
STEPS, ACCOUNTS, ASSETS = 40, 3, 2
LIMITED = TradingParameters(preset="proportional", max_drawdown=0.05, net_limit=0.8, costs={"impact": 1.0})  # type: ignore[arg-type]


class Wishes:
    """Asks for levels that were drawn beforehand."""

    def __init__(self) -> None:
        drawn = torch.randn((STEPS, ACCOUNTS, ASSETS), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
        self.inputs = (drawn.clamp(-1.0, 1.0),)

    def decide(
        self, inputs: PolicyTrace, account: AccountState, view: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        return Decision(inputs[0], inputs[0].abs() < 0.1), (view.cap,)


def step_data() -> StepData:
    draws = torch.Generator().manual_seed(1)
    market_returns = 0.02 * torch.randn((STEPS + 1, 1, ASSETS), generator=draws, dtype=DOUBLE)
    close = 100.0 * market_returns.cumsum(0).exp()
    yes = torch.ones((STEPS, 1, ASSETS), dtype=torch.bool)
    half_spread, impact = torch.full((STEPS, 1, ASSETS), 2e-4, dtype=DOUBLE), torch.full_like(close[1:], 1e-6)
    levels = level_table(LIMITED, ASSETS, close)
    return StepData(close[:-1], yes, close[:-1], close[1:], yes, half_spread, impact=impact, levels=levels)


def walk(step: Advance) -> tuple[AccountState, Step]:
    cash = torch.tensor([1e4, 1e5, 1e6], dtype=DOUBLE)
    return simulate(step_data(), Wishes(), open_accounts(cash, ASSETS), LIMITED, telemetry=True, step=step)


def tensors(walked: tuple[AccountState, Step]) -> list[Tensor]:
    end, (fill, record) = walked
    return [x for part in (end, fill, record) for x in part if x is not None]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None or " " in torch.__path__[0],
    reason="compilation on a CPU needs g++, and torch does not quote a path with a space to its linker",
)
def test_a_compiled_walk_equals_the_eager_one() -> None:
    step = CompiledStep()
    compiled, eager = tensors(walk(step)), tensors(walk(advance))
    assert step.works
    assert len(compiled) == len(eager)
    for found, expected in zip(compiled, eager, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-7)


def test_where_nothing_compiles_steps_are_eager_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        def step(*_: Any) -> NoReturn:
            raise RuntimeError("no compiler found")

        return step

    monkeypatch.setattr(torch, "compile", broken)
    step = CompiledStep()
    with caplog.at_level(logging.WARNING):
        found = tensors(walk(step))
    assert not step.works
    assert caplog.text.count("runs eagerly: no compiler found") == 1
    for part, expected in zip(found, tensors(walk(advance)), strict=True):
        assert torch.equal(part, expected)
