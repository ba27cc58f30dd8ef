"""How an agent is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sentio_kedro.config.fields import Count, Fraction, NonNegative, Positive, parameters
from sentio_kedro.config.generalisation import ResamplingParameters


@parameters
class TrainingParameters:
    """Proximal policy optimisation.

    Attributes:
        seeds: Independent agents per fold; headline figures are the median over them.
        members: Networks whose legal probabilities one agent averages; each misses another part of the train rows.
        total_steps: Environment steps per member (account-bars, all replicas counted).
        windows: Windows of the market path per rollout.
        replicas: Accounts that trade each window when actions are sampled, differing only in their actions.
        episode_bars: Decisions of one window and episode.
        advantages: ``all_action`` values every action of every position along the path; ``sampled`` lets R accounts
            act and estimates with GAE.
        gamma: Discount per bar.
        gae_lambda: Lambda of generalised advantage estimation (sampled).
        path_baseline: Subtract the other replicas' mean advantage at the same bar (Mao et al. 2019; sampled).
        learning_rate: Peak of the cosine schedule.
        epochs: Passes over a rollout.
        minibatches: Minibatches per pass; each holds whole windows.
        clip: Clip range of the probability ratio.
        entropy: Coefficient of the entropy bonus, in units of reward (one bar's volatility).
        value: Coefficient of the critic's loss.
        gradient_norm: Largest norm of the gradient.
        resampling: Synthetic train paths.
        validations: Times that the policy is judged on validation rows; the best is kept.
        checkpoint_updates: Updates between two checkpoints.
        device: ``auto`` takes a GPU if there is one.
        workers: Agents trained at once; null takes one per core on a CPU and one on a GPU.
        threads: CPU threads of torch per agent; null takes one if several agents train at once, else torch's choice.
        seed: Root of all random generators.
    """

    seeds: Count = 2
    members: Count = 2
    total_steps: Count = 200_000
    windows: Count = 32
    replicas: Annotated[int, Field(ge=1)] = 8
    episode_bars: Annotated[int, Field(ge=2)] = 64
    advantages: Literal["all_action", "sampled"] = "all_action"
    gamma: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    gae_lambda: Fraction = 0.9
    path_baseline: bool = True
    learning_rate: Positive = 8e-3
    epochs: Count = 1
    minibatches: Count = 4
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    entropy: NonNegative = 0.3
    value: NonNegative = 0.5
    gradient_norm: Positive = 1.0
    resampling: ResamplingParameters = Field(default_factory=ResamplingParameters)
    validations: Count = 5
    checkpoint_updates: Count = 20
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Count | None = None
    threads: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _minibatches_hold_whole_windows(self) -> TrainingParameters:
        problems = []
        if self.windows % self.minibatches:
            problems.append(
                f"`training.minibatches` must divide `training.windows` = {self.windows} (a minibatch holds whole "
                f"windows), was {self.minibatches}."
            )
        if self.path_baseline and self.replicas < 2:  # noqa: PLR2004 - leave-one-out needs another one
            problems.append(
                "`training.path_baseline` needs `training.replicas` of at least 2 (the others are the baseline), was "
                f"{self.replicas}; raise it or set `training.path_baseline: false`."
            )
        if problems:
            raise ValueError(" ".join(problems))
        return self
