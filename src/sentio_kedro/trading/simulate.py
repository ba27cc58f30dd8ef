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
from sentio_kedro.trading.position_limits import View, look
from sentio_kedro.trading.step_data import Tape
from sentio_kedro.trading.telemetry import Sight, layers_of, sight_of

RUIN = 1e-9  # of the first equity; what is below counts as nothing
Record = tuple[Tensor, ...]


class Policy(Protocol):
    """Decides for a batch of accounts. Pure: what it reads of a step comes in, what it wants to remember goes out."""

    @property
    def inputs(self) -> Record:
        """What the policy reads at each step, tensors ``[S, ...]``."""
        ...

    def decide(self, inputs: Record, account: AccountState, view: View, legal: Tensor) -> tuple[Decision, Record]:
        """Decide at one step.

        Args:
            inputs: Its inputs of this step, without the leading dimension.
            account: Accounts ``[...]`` marked at the close of the decision bar.
            view: What ``look`` says of them.
            legal: ``[..., A, actions]`` legal actions.

        Returns:
            The decision ``[..., A]``, and what to remember of the step.
        """
        ...


class Moment(NamedTuple):
    """What happened in one step.

    Attributes:
        fill: The ledger.
        record: What the policy remembered.
        sight: What telemetry is worked out from; None unless asked.
    """

    fill: Fill
    record: Record
    sight: Sight | None


class Step(NamedTuple):
    """What happened in all steps of a walk ``[S, ...]``.

    Attributes:
        fill: The ledger.
        record: What the policy remembered.
    """

    fill: Fill
    record: Record


Decide = Callable[[Record, AccountState, View, Tensor], tuple[Decision, Record]]
StepArguments = tuple[Decide, Record, AccountState, Tape, TradingParameters, Variation | None, bool]  # of ``advance``
Advance = Callable[[*StepArguments], tuple[AccountState, Moment]]


def advance(
    decide: Decide,
    inputs: Record,
    account: AccountState,
    row: Tape,
    parameters: TradingParameters,
    variation: Variation | None = None,
    telemetry: bool = False,
) -> tuple[AccountState, Moment]:
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
    view = look(account, row, parameters, variation)
    legal = legal_actions(account, view, row, parameters)
    decision, record = decide(inputs, account, view, legal)
    after, fill = execute(account, view, decision, row, parameters, variation, telemetry=telemetry)
    return after, Moment(fill, record, sight_of(account, view) if telemetry else None)


def simulate(
    tape: Tape,
    policy: Policy,
    account: AccountState,
    parameters: TradingParameters,
    variation: Variation | None = None,
    *,
    telemetry: bool = False,
    step: Advance = advance,
) -> tuple[AccountState, Step]:
    """Walk ``policy`` along ``tape``.

    Args:
        tape: Facts of S steps, broadcastable to the accounts' shape.
        policy: Who decides.
        account: Accounts at the close of the first decision row.
        parameters: Limits and costs.
        variation: Accounts that differ.
        telemetry: Whether to tell positions, what limits cut, and what each layer of the mask forbade.
        step: The step to take; ``compilation.CompiledStep`` is a faster one.

    Returns:
        Accounts after the last fill, and all steps ``[S, ...]``.
    """
    steps: list[Moment] = []
    columns = [x.unbind(0) for x in policy.inputs]
    for index, row in enumerate(tape.walk()):
        inputs = tuple(column[index] for column in columns)
        account, happened = step(policy.decide, inputs, account, row, parameters, variation, telemetry)
        steps.append(happened)
    fill = Fill._make(_stacked([happened.fill for happened in steps]))
    record = tuple(x for x in _stacked([happened.record for happened in steps]) if x is not None)
    if not telemetry:
        return account, Step(fill, record)
    sight = Sight._make(_stacked([happened.sight for happened in steps if happened.sight is not None]))
    return account, Step(fill._replace(layers=layers_of(sight, fill, tape, parameters)), record)


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
