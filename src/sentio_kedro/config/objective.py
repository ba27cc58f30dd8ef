"""Constraints of an update: divergence of the policy, worst episodes, early stopping."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sentio_kedro.config.fields import Count, NonNegative, NonNegativeCount, Positive, parameters

MoreThanOne = Annotated[float, Field(gt=1.0)]


@parameters
class DivergenceParameters:
    """Divergence penalty and trust region, in nats of the exact divergence of the new policy from the old.

    Attributes:
        coefficient: Coefficient of the penalty at the start of training; 0 switches the penalty off.
        target: Divergence that the coefficient is adapted to, nats.
        change: Factor by which the coefficient rises where the divergence exceeds 1.5 x target, and falls where it is
            below target / 1.5.
        min_coefficient: Smallest coefficient.
        max_coefficient: Largest coefficient.
        max_kl: Trust region, nats: an update that leads beyond it, or worsens the policy's part of the loss on its own
            windows, is undone; null is off.
        halvings: Times that such an update is halved to find an acceptable one before it is undone.
    """

    coefficient: NonNegative = 0.0
    target: Positive = 0.02
    change: MoreThanOne = 2.0
    min_coefficient: Positive = 1e-4
    max_coefficient: Positive = 100.0
    max_kl: Positive | None = None
    halvings: NonNegativeCount = 0

    @model_validator(mode="after")
    def _bounds_in_order(self) -> DivergenceParameters:
        problems = []
        if self.min_coefficient > self.max_coefficient:
            problems.append(
                f"`training.divergence.min_coefficient` must be at most `training.divergence.max_coefficient` = "
                f"{self.max_coefficient:g}, was {self.min_coefficient:g}"
            )
        if self.max_kl is not None and self.coefficient and self.max_kl <= self.target:
            problems.append(
                f"`training.divergence.max_kl` must be above `training.divergence.target` = {self.target:g}, was "
                f"{self.max_kl:g}: the region would end before the penalty acts"
            )
        if problems:
            raise ValueError("; ".join(problems) + ". Change one of them.")
        return self


@parameters
class TailParameters:
    """Constraint on the worst episodes: CVaR of an episode's log return must not fall below ``-limit``.

    Attributes:
        limit: Most expected loss of the worst episodes, log return; null is off. Needs ``training.advantages:
            all_action``.
        alpha: Share of episodes that are the worst, at most one half.
    """

    limit: Positive | None = None
    alpha: Annotated[float, Field(gt=0.0, le=0.5)] = 0.05


@parameters
class StoppingParameters:
    """Early stopping.

    Attributes:
        patience: Validations without a better score after which training stops; null never does.
        margin: Least gain of the validation Sharpe ratio that counts as better.
    """

    patience: Count | None = None
    margin: NonNegative = 0.0
