"""One update of all members of a stack: ``ppo.update`` for each member. M counts members.

A member whose last step left the trust region ends its update; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sentio_kedro.agent.ppo.update import Part, UpdateReport, cut_minibatch, sum_of
from sentio_kedro.agent.training.batched.stack import Stack, State, adam_step
from sentio_kedro.config import TrainingParameters

LossOf = Callable[[Tensor, Tensor], tuple[Tensor, UpdateReport]]
MIN_NORM = 1e-6  # added to the norm of a gradient, as ``clip_grad_norm_`` does


class StackedRegion:
    """``TrustRegion`` of each member of a stack.

    Attributes:
        moving: ``[M]`` bool, members whose update goes on.
        ended_at: ``[M]`` divergence at which the update of the others ended.
    """

    def __init__(self, stack: Stack, loss_of: LossOf, parameters: TrainingParameters) -> None:
        """Watch an update of ``stack`` that begins now."""
        self.stack, self.loss_of, self.parameters = stack, loss_of, parameters.divergence
        self.moving = torch.ones(len(stack.members), dtype=torch.bool, device=stack.state.weights.device)
        self.ended_at = stack.state.weights.new_zeros(len(stack.members))
        self._before: State | None = None

    def remember(self) -> None:
        """Keep weights and moments as they are before a step."""
        if self.parameters.max_kl is not None:
            self._before = State(*(part.clone() for part in self.stack.state))

    @torch.no_grad()
    def watch(self, divergence: Tensor, index: Tensor) -> None:
        """Take back steps that left the region, and end the update of those members.

        The ``divergence`` ``[M]`` of the present weights and that of halved steps is measured on windows ``[M, w]``.
        """
        limit, before = self.parameters.max_kl, self._before
        if limit is None or before is None:
            return
        beyond = self.moving & ~(divergence <= limit)
        self.ended_at = torch.where(beyond, divergence, self.ended_at)
        self.moving = self.moving & ~beyond
        if bool(beyond.any()):
            self._undo(beyond, index, before, limit)

    def close(self, parts: Sequence[Tensor]) -> Tensor | None:
        """Return the divergence ``[M]`` after the update, on parts of windows ``[M, w]``; None if nothing needs it."""
        if self.parameters.max_kl is None and not self.parameters.coefficient:
            return None
        with torch.no_grad():
            weights = self.stack.state.weights
            divergence = torch.stack([self.loss_of(weights, part)[1].kl for part in parts]).mean(0)
        ended = ~self.moving
        self.watch(divergence, parts[0])
        return torch.where(ended, self.ended_at, divergence)

    def _undo(self, beyond: Tensor, index: Tensor, before: State, limit: float) -> None:
        present = self.stack.state
        trial = present.weights
        for _ in range(self.parameters.halvings):
            trial = torch.where(beyond[:, None], torch.lerp(trial, before.weights, 0.5), trial)
            beyond = beyond & ~(self.loss_of(trial, index)[1].kl <= limit)
        self.stack.put(before.where(beyond, present._replace(weights=trial)))


def update_together(
    stack: Stack,
    loss_of: LossOf,
    orders: Sequence[Tensor],
    rates: Tensor,
    parameters: TrainingParameters,
    valid_steps: Tensor | None = None,
) -> UpdateReport:
    """Improve all members of ``stack`` by one pass over W windows per order, in minibatches of whole windows.

    Args:
        stack: The members.
        loss_of: Losses ``[M]`` and their parts, of weights ``[M, N]`` on the windows in an index ``[M, w]``. The loss
            of a member depends on its own weights alone.
        orders: Each member's order of the windows ``[M, W]`` in each pass.
        rates: ``[M]`` learning rates, float64.
        parameters: Minibatches, largest gradient, trust region.
        valid_steps: ``[M, W]`` steps that accounts lived through in each window; None where all windows count alike.

    Returns:
        The report of ``update`` for each member, ``[M]``.
    """

    def loss_in_parts(weights: Tensor, index: Tensor) -> tuple[Tensor, UpdateReport]:  # without gradient
        parts = cut_minibatch(index, parameters.accumulation, valid_steps)
        losses = [(share, *loss_of(weights, part)) for part, share in parts]
        reports = [UpdateReport(*(term * share for term in report)) for share, _, report in losses]
        return torch.stack([loss * share for share, loss, _ in losses]).sum(0), sum_of(reports)

    region = StackedRegion(stack, loss_in_parts, parameters)
    group = stack.members[0].optimiser.param_groups[0]
    report: UpdateReport | None = None
    for order in orders:
        passed: list[tuple[UpdateReport, Tensor]] = []
        for index in order.chunk(parameters.minibatches, dim=1):
            gradients, terms = _gradients(stack, loss_of, cut_minibatch(index, parameters.accumulation, valid_steps))
            region.watch(terms.kl, index)
            norm = gradients.norm(dim=1)
            gradients = gradients * (parameters.gradient_norm / (norm + MIN_NORM)).clamp_max(1.0)[:, None]
            region.remember()
            stepped = adam_step(stack.state, gradients, rates, group)
            stack.put(stepped.where(region.moving, stack.state))
            passed.append((terms._replace(gradient_norm=norm), region.moving))
        report = _mean_of_taken(passed, report)
    if report is None:
        raise ValueError("`orders` must hold the order of at least one pass, was empty.")
    count, windows = orders[0].shape
    everything = torch.arange(windows, device=orders[0].device).expand(count, -1)
    divergence = region.close(everything.chunk(parameters.minibatches, dim=1))
    return report if divergence is None else report._replace(kl=divergence)


def _gradients(stack: Stack, loss_of: LossOf, parts: Sequence[Part]) -> tuple[Tensor, UpdateReport]:
    """Return the gradients ``[M, N]`` of a minibatch, summed over its parts, and the report of all parts."""
    weights = stack.state.weights.detach().requires_grad_()
    total, reports = torch.zeros_like(weights), []
    for index, share in parts:
        losses, report = loss_of(weights, index)
        (gradients,) = torch.autograd.grad((losses * share).sum(), weights)  # rows do not mix: each gets its own
        total = total + gradients
        reports.append(UpdateReport(*(term * share for term in report)))
    return total, sum_of(reports)


def _mean_of_taken(passed: Sequence[tuple[UpdateReport, Tensor]], before: UpdateReport | None) -> UpdateReport:
    """Return the mean over the minibatches of a pass that a member took; the report ``before`` where it took none."""
    taken = torch.stack([moving for _, moving in passed])  # [minibatches, M]
    count = taken.sum(0)
    columns = [torch.stack(column) for column in zip(*(report for report, _ in passed), strict=True)]
    means = [torch.where(taken, column, 0.0).sum(0) / count.clamp_min(1) for column in columns]
    if before is None:  # the first step of an update is always taken
        return UpdateReport(*means)
    return UpdateReport(*(torch.where(count > 0, new, old) for new, old in zip(means, before, strict=True)))
