"""Parameters of training, and its constraints: divergence of the policy, worst episodes, early stopping."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sentio_kedro.config.fields import (
    LARGEST,
    Count,
    Fraction,
    NonNegative,
    Positive,
    Seed,
    TwoOrMore,
    null_is_off,
    parameters,
)
from sentio_kedro.config.presets import VariantName, with_variant

MoreThanOne = Annotated[float, Field(gt=1.0, le=LARGEST)]


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
    halvings: Annotated[int, Field(ge=0, le=64)] = 0

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


@parameters
class TrainingParameters:
    """Proximal policy optimisation.

    Attributes:
        variant: Learner to start from: ``standard`` and ``maskable`` are plain proximal policy optimisation,
            ``enhanced`` has the defaults below, and ``forecasts`` acts on the forecast rule (``trading.unit: rule``)
            with defaults of its own; other keys override it. Set ``network.variant`` alike.
        seeds: Independent agents per fold, which decide as one in the headline account.
        members: Networks whose legal probabilities one agent averages; each misses another part of the train rows.
        total_steps: Environment steps per member (account-bars, all replicas counted).
        windows: Windows of the market path per rollout.
        replicas: Accounts that trade each window when actions are sampled, differing only in their actions.
        episode_bars: Decisions of one window and episode.
        advantages: ``all_action`` values every action of every position along the path; ``sampled`` lets R accounts
            act and estimates from their profit.
        gamma: Discount per bar.
        greedy_exponent: Power to which the policy's probabilities are raised where later decisions are valued: 1 values
            the exploring policy, a large one the likeliest action, which is traded (all_action).
        gae_lambda: Lambda of generalised advantage estimation (sampled).
        critic_target: Target of the critic's quantiles: the ``mean`` return under the policy, or the ``distribution``
            of a single account's return (sampled).
        path_baseline: Subtract the other replicas' mean advantage at the same bar (Mao et al. 2019; sampled).
        learning_rate: Learning rate of the first update; it falls to a twentieth along a cosine.
        weight_decay: Decoupled weight decay.
        epochs: Passes over a rollout.
        minibatches: Minibatches per pass; each holds whole windows.
        accumulation: Parts in which the loss of a minibatch is computed, one after the other, to save memory.
        clip: Clip range of the probability ratio.
        price_of_risk: Annual Sharpe ratio at which the largest position is worth its risk: each bar costs half of it a
            bar times the squared share of that position; 0 is no price (all_action).
        entropy: Coefficient of the entropy bonus, in units of reward (one bar's volatility); of the divergence from
            following the rule, where levels are multiples of it.
        divergence: Divergence penalty and trust region.
        tail: Constraint on the worst episodes.
        value: Coefficient of the critic's loss.
        gradient_norm: Largest norm of the gradient.
        block_bars: Mean length of the blocks of train bars that paths are made of, drawn anew for every update so that
            no network can memorise one price history; null replays the history.
        mirror_blocks: Mirror each block in log price with probability one half. Removes drift, and signals of
            mirror-invariant features.
        abstention: The agent decides only if the t statistic of its mean net return per bar on validation rows, less
            that of the rule if there is one, is above this; else the rule decides, or it stays flat. Null is off.
        validations: Number of evaluations on validation rows.
        selection_margin: The latest weights are kept unless earlier ones did better on validation rows by more standard
            errors of the difference of Sharpe ratios than this; 0 keeps the best score, however small its lead.
        stopping: Early stopping.
        checkpoint_updates: Updates between two checkpoints.
        device: ``auto`` takes a GPU if there is one.
        compile: Compile the losses with ``torch.compile``, on a GPU in CUDA graphs. ``always`` takes a minute or two on
            a CPU at the first update, much less with torch's cache; ``auto`` does so on a GPU, and on a CPU where
            ``total_steps`` is at least 20 million. Results equal those of ``never`` up to rounding, not to the bit.
            What does not compile runs eagerly with a warning. Compiled agents train one after the other.
        workers: Agents trained at once; null takes one per core on a CPU and one on a GPU.
        threads: CPU threads of torch per agent; null takes one if several agents train at once, else torch's choice.
        seed: Root of all random generators.
    """

    variant: VariantName = "enhanced"
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 2
    members: Annotated[int, Field(ge=1, le=10_000)] = 4
    total_steps: Count = 400_000
    windows: Count = 32
    replicas: Count = 8
    episode_bars: TwoOrMore = 64
    advantages: Literal["all_action", "sampled"] = "all_action"
    gamma: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    greedy_exponent: Annotated[float, Field(ge=1.0, le=1e6)] = 20.0
    gae_lambda: Fraction = 0.9
    critic_target: Literal["mean", "distribution"] = "mean"
    path_baseline: bool = True
    learning_rate: Positive = 8e-3
    weight_decay: NonNegative = 0.0
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 1
    minibatches: Count = 4
    accumulation: Count = 1
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    price_of_risk: NonNegative = 0.0
    entropy: NonNegative = 0.3
    divergence: DivergenceParameters = Field(default_factory=DivergenceParameters)
    tail: TailParameters = Field(default_factory=TailParameters)
    value: NonNegative = 0.5
    gradient_norm: Positive = 1.0
    block_bars: Annotated[Count | None, null_is_off("training.block_bars")] = 128
    mirror_blocks: bool = True
    abstention: float | None = None
    validations: Count = 5
    selection_margin: NonNegative = 2.0
    stopping: StoppingParameters = Field(default_factory=StoppingParameters)
    checkpoint_updates: Count = 20
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: Literal["never", "auto", "always"] = "never"
    workers: Count | None = None
    threads: Annotated[int, Field(ge=1, le=1_024)] | None = None
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _start_from_variant(cls, given: Any) -> Any:
        return with_variant("training", given)

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> TrainingParameters:
        problems = []
        if self.windows % self.minibatches:
            problems.append(
                f"`training.minibatches` must divide `training.windows` = {self.windows} (a minibatch holds whole "
                f"windows), was {self.minibatches}."
            )
        if self.path_baseline and self.replicas < 2 and self.advantages == "sampled":  # noqa: PLR2004 - leave-one-out needs another one
            problems.append(
                "`training.path_baseline` needs `training.replicas` of at least 2 (the others are the baseline), was "
                f"{self.replicas}; raise it or set `training.path_baseline: false`."
            )
        if self.windows % (self.minibatches * self.accumulation):
            problems.append(
                f"`training.minibatches` x `training.accumulation` must divide `training.windows` = {self.windows}, "
                f"was {self.minibatches * self.accumulation}."
            )
        if self.critic_target == "distribution" and self.advantages != "sampled":
            problems.append(
                f"`training.critic_target: distribution` needs `training.advantages: sampled`, was {self.advantages}; "
                "set it, or `training.critic_target: mean`."
            )
        if self.tail.limit is not None and self.advantages != "all_action":
            problems.append(
                f"`training.tail.limit` needs `training.advantages: all_action`, was {self.advantages}; set it, or "
                "`training.tail.limit: null`."
            )
        if problems:
            raise ValueError(" ".join(problems))
        return self
