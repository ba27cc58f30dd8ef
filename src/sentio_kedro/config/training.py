"""Parameters of training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sentio_kedro.config.fields import Count, Fraction, NonNegative, Positive, null_is_off, parameters
from sentio_kedro.config.generalisation import AbstentionParameters, ResamplingParameters
from sentio_kedro.config.objective import (
    DivergenceParameters,
    StoppingParameters,
    TailParameters,
)
from sentio_kedro.config.presets import VariantName, with_variant


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
        resampling: Synthetic train paths.
        abstention: Abstention gate.
        screening: Criterion by which a sparse regression on the fold's train rows selects feature columns and lags of
            the convolution: ``bic``, or ``ebic``, which keeps less. Null keeps the values of all and no sizes.
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
    seeds: Count = 2
    members: Count = 4
    total_steps: Count = 400_000
    windows: Count = 32
    replicas: Annotated[int, Field(ge=1)] = 8
    episode_bars: Annotated[int, Field(ge=2)] = 64
    advantages: Literal["all_action", "sampled"] = "all_action"
    gamma: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    greedy_exponent: Annotated[float, Field(ge=1.0, le=1e6)] = 20.0
    gae_lambda: Fraction = 0.9
    critic_target: Literal["mean", "distribution"] = "mean"
    path_baseline: bool = True
    learning_rate: Positive = 8e-3
    weight_decay: NonNegative = 0.0
    epochs: Count = 1
    minibatches: Count = 4
    accumulation: Count = 1
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    price_of_risk: NonNegative = 0.0
    entropy: NonNegative = 0.3
    divergence: DivergenceParameters = Field(default_factory=DivergenceParameters)
    tail: TailParameters = Field(default_factory=TailParameters)
    value: NonNegative = 0.5
    gradient_norm: Positive = 1.0
    resampling: ResamplingParameters = Field(default_factory=ResamplingParameters)
    abstention: AbstentionParameters = Field(default_factory=AbstentionParameters)
    screening: Annotated[Literal["bic", "ebic"] | None, null_is_off("training.screening", "none", "bic or ebic")] = (
        "bic"
    )
    validations: Count = 5
    selection_margin: NonNegative = 2.0
    stopping: StoppingParameters = Field(default_factory=StoppingParameters)
    checkpoint_updates: Count = 20
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: Literal["never", "auto", "always"] = "never"
    workers: Count | None = None
    threads: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0

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
