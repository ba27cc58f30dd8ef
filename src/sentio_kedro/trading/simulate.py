"""Simulation loop of rollout, validation, backtest, baselines and serving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import AccountState, Decision, Fill, Variation
from sentio_kedro.trading.action_masks import legal_actions
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.position_limits import PositionLimits, position_limits
from sentio_kedro.trading.step_data import StepData
from sentio_kedro.trading.telemetry import TelemetryInputs, layers_of, telemetry_inputs_of

RUIN = 1e-9  # of the first equity; smaller equity counts as zero
PolicyTrace = tuple[Tensor, ...]


class Policy(Protocol):
    """Decision rule for a batch of accounts. Pure."""

    @property
    def inputs(self) -> PolicyTrace:
        """Inputs of all steps, tensors ``[S, ...]``."""
        ...

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor, /
    ) -> tuple[Decision, PolicyTrace]:
        """Decide at one step.

        Args:
            inputs: Its inputs of this step, without the leading dimension.
            account: Accounts ``[...]`` marked at the close of the decision bar.
            limits: Their limits, from ``position_limits``.
            legal: ``[..., A, actions]`` legal actions.

        Returns:
            The decision ``[..., A]``, and the policy's trace of the step.
        """
        ...


class StepResult(NamedTuple):
    """Result of one step.

    Attributes:
        fill: The ledger.
        trace: The policy's trace.
        telemetry_inputs: Inputs of the mask's telemetry; None without telemetry.
    """

    fill: Fill
    trace: PolicyTrace
    telemetry_inputs: TelemetryInputs | None


class Step(NamedTuple):
    """Result of all steps of a simulation ``[S, ...]``.

    Attributes:
        fill: The ledger.
        trace: The policy's trace.
    """

    fill: Fill
    trace: PolicyTrace


Decide = Callable[[PolicyTrace, AccountState, PositionLimits, Tensor], tuple[Decision, PolicyTrace]]
StepArguments = tuple[
    Decide, PolicyTrace, AccountState, StepData, TradingParameters, Variation | None, bool
]  # of ``advance``
Advance = Callable[[*StepArguments], tuple[AccountState, StepResult]]


def advance(
    decide: Decide,
    inputs: PolicyTrace,
    account: AccountState,
    row: StepData,
    parameters: TradingParameters,
    variation: Variation | None = None,
    telemetry: bool = False,
) -> tuple[AccountState, StepResult]:
    """Take one step: compute limits and mask, decide, execute. For the arguments see ``simulate``."""
    limits = position_limits(account, row, parameters, variation)
    legal = legal_actions(account, limits, row, parameters)
    decision, trace = decide(inputs, account, limits, legal)
    after, fill = execute(account, limits, decision, row, parameters, variation, telemetry=telemetry)
    return after, StepResult(fill, trace, telemetry_inputs_of(account, limits) if telemetry else None)


def simulate(
    step_data: StepData,
    policy: Policy,
    account: AccountState,
    parameters: TradingParameters,
    variation: Variation | None = None,
    *,
    telemetry: bool = False,
    step: Advance = advance,
) -> tuple[AccountState, Step]:
    """Simulate ``policy`` over the steps of ``step_data``.

    Args:
        step_data: Market data of S steps, broadcastable to the accounts' shape.
        policy: Decision rule.
        account: Accounts at the close of the first decision row.
        parameters: Limits and costs.
        variation: Deviations of single accounts.
        telemetry: Fill in the telemetry of the ledger.
        step: Function of one step; ``CompiledStep`` is a faster one.

    Returns:
        Accounts after the last fill, and all steps ``[S, ...]``.
    """
    steps: list[StepResult] = []
    columns = [x.unbind(0) for x in policy.inputs]
    for index, row in enumerate(step_data.each_step()):
        inputs = tuple(column[index] for column in columns)
        account, result = step(policy.decide, inputs, account, row, parameters, variation, telemetry)
        steps.append(result)
    fill = Fill._make(_stacked([result.fill for result in steps]))
    trace = tuple(x for x in _stacked([result.trace for result in steps]) if x is not None)
    if not telemetry:
        return account, Step(fill, trace)
    telemetry_inputs = TelemetryInputs._make(
        _stacked([result.telemetry_inputs for result in steps if result.telemetry_inputs is not None])
    )
    return account, Step(fill._replace(layers=layers_of(telemetry_inputs, fill, step_data, parameters)), trace)


def _stacked(steps: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """Stack each field over the steps; None where it is off."""
    columns = zip(*steps, strict=True)
    return [None if column[0] is None else torch.stack(column) for column in columns]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread inside: the operations of a step are too small for several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def net_returns(fill: Fill) -> Tensor:
    """Simple returns of equity per step ``[S, ...]``: -1 at bankruptcy, 0 afterwards."""
    floor = fill.equity_before[:1].clamp_min(1e-12) * RUIN
    return torch.maximum(fill.equity, floor) / torch.maximum(fill.equity_before, floor) - 1.0
