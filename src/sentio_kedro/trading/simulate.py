"""The one loop that walks a policy over rows: rollout, validation, backtest, baselines and serving."""

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

RUIN = 1e-9  # of the first equity; what is below counts as nothing
PolicyTrace = tuple[Tensor, ...]


class Policy(Protocol):
    """Decides for a batch of accounts. Pure: what it reads of a step comes in, what it wants to remember goes out."""

    @property
    def inputs(self) -> PolicyTrace:
        """What the policy reads at each step, tensors ``[S, ...]``."""
        ...

    def decide(
        self, inputs: PolicyTrace, account: AccountState, view: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        """Decide at one step.

        Args:
            inputs: Its inputs of this step, without the leading dimension.
            account: Accounts ``[...]`` marked at the close of the decision bar.
            view: What ``position_limits`` says of them.
            legal: ``[..., A, actions]`` legal actions.

        Returns:
            The decision ``[..., A]``, and what to remember of the step.
        """
        ...


class StepResult(NamedTuple):
    """What happened in one step.

    Attributes:
        fill: The ledger.
        record: What the policy remembered.
        telemetry_inputs: What telemetry is worked out from; None unless asked.
    """

    fill: Fill
    record: PolicyTrace
    telemetry_inputs: TelemetryInputs | None


class Step(NamedTuple):
    """What happened in all steps of a walk ``[S, ...]``.

    Attributes:
        fill: The ledger.
        record: What the policy remembered.
    """

    fill: Fill
    record: PolicyTrace


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
    """Take one step: look, mask, decide, execute.

    Args:
        decide: A policy's ``decide``.
        inputs: Its inputs of this step.
        account: Accounts at the close of the decision bar.
        row: Facts of the step.
        parameters: Limits and costs.
        variation: Accounts that differ.
        telemetry: Whether the ledger tells positions and what limits cut; the layers of the mask are told by walks.
    """
    view = position_limits(account, row, parameters, variation)
    legal = legal_actions(account, view, row, parameters)
    decision, record = decide(inputs, account, view, legal)
    after, fill = execute(account, view, decision, row, parameters, variation, telemetry=telemetry)
    return after, StepResult(fill, record, telemetry_inputs_of(account, view) if telemetry else None)


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
    """Walk ``policy`` along ``step_data``.

    Args:
        step_data: Facts of S steps, broadcastable to the accounts' shape.
        policy: Who decides.
        account: Accounts at the close of the first decision row.
        parameters: Limits and costs.
        variation: Accounts that differ.
        telemetry: Whether to tell positions, what limits cut, and what each layer of the mask forbade.
        step: The step to take; ``compilation.CompiledStep`` is a faster one.

    Returns:
        Accounts after the last fill, and all steps ``[S, ...]``.
    """
    steps: list[StepResult] = []
    columns = [x.unbind(0) for x in policy.inputs]
    for index, row in enumerate(step_data.walk()):
        inputs = tuple(column[index] for column in columns)
        account, happened = step(policy.decide, inputs, account, row, parameters, variation, telemetry)
        steps.append(happened)
    fill = Fill._make(_stacked([happened.fill for happened in steps]))
    record = tuple(x for x in _stacked([happened.record for happened in steps]) if x is not None)
    if not telemetry:
        return account, Step(fill, record)
    telemetry_inputs = TelemetryInputs._make(
        _stacked([happened.telemetry_inputs for happened in steps if happened.telemetry_inputs is not None])
    )
    return account, Step(fill._replace(layers=layers_of(telemetry_inputs, fill, step_data, parameters)), record)


def _stacked(steps: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """Stack each field over the steps; None where it is off."""
    columns = zip(*steps, strict=True)
    return [None if column[0] is None else torch.stack(column) for column in columns]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside: a walk is a chain of operations too small to wake threads for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def net_returns(fill: Fill) -> Tensor:
    """Simple returns of equity per step ``[S, ...]``: -1 where an account dies, 0 afterwards.

    Args:
        fill: Ledger of a walk ``[S, ...]``.
    """
    floor = fill.equity_before[:1].clamp_min(1e-12) * RUIN
    return torch.maximum(fill.equity, floor) / torch.maximum(fill.equity_before, floor) - 1.0
