"""Typed parameters: one frozen class per section of ``conf/<env>/parameters_*.yml``.

Kedro builds these classes from the section that a node asks for and refuses unknown keys, wrong types and values out
of bounds before any node runs. Fractions are fractions of one (0.08 is 8 %), costs are basis points (1 bps = 0.0001 of
traded notional), lengths are bars unless the name says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sentio_kedro.config.fields import Count, Fraction, NonNegative, NonNegativeCount, Positive, parameters
from sentio_kedro.config.trading import (
    CarryParameters,
    CostParameters,
    MarginParameters,
    MaskParameters,
    OrderParameters,
    TradingParameters,
)

__all__ = [
    "BacktestParameters",
    "CarryParameters",
    "CostParameters",
    "CrossValidationParameters",
    "FeatureColumn",
    "FeatureParameters",
    "IndicatorName",
    "IngestionParameters",
    "MarginParameters",
    "MaskParameters",
    "NetworkParameters",
    "OrderParameters",
    "RegimeParameters",
    "ReportingParameters",
    "ResamplingParameters",
    "RobustnessParameters",
    "SignalParameters",
    "TradingParameters",
    "TrainingParameters",
]


@parameters
class IngestionParameters:
    """How bars are read.

    Attributes:
        bar_label: Whether a feed's ``timestamp`` names the start or the end of its bar. The project uses the end.
        bar_minutes: Length of a bar in minutes, needed to turn starts into ends; null takes the most common gap.
        timezone: Zone of naive timestamps (for example ``America/New_York``); null refuses naive timestamps.
        missing: ``halt`` keeps a bar that some asset lacks and makes that asset untradable there; ``drop_bar`` drops
            the bar for all assets.
        sessions_per_year: Trading days a year: 365 for crypto, 252 for US equities. Bars per session are counted.
        universe: ``survivorship_biased`` if the symbols were chosen with hindsight (the report says so), ``dated`` if
            the bars hold what was investable at each date.
    """

    bar_label: Literal["start", "end"] = "end"
    bar_minutes: Positive | None = None
    timezone: str | None = None
    missing: Literal["drop_bar", "halt"] = "halt"
    sessions_per_year: Positive = 365.0
    universe: Literal["survivorship_biased", "dated"] = "survivorship_biased"


IndicatorName = Literal[
    "log_return",
    "volatility",
    "range_volatility",
    "volume_surprise",
    "relative_strength",
    "trend_strength",
    "moving_average_gap",
    "convergence_divergence",
    "band_position",
    "return_rank",
    "time_of_day_sine",
    "time_of_day_cosine",
    "day_of_week_sine",
    "day_of_week_cosine",
]


@parameters
class FeatureColumn:
    """One feature column.

    Attributes:
        name: Column name, unique in the list.
        indicator: The formula, one of ``sentio_kedro.market.indicators.INDICATORS``.
        bars: Horizon of the formula in bars; calendar features ignore it.
        lookback: Bars that reproduce the column to 1e-6; null takes the indicator's own figure, a larger number is
            allowed, a smaller one refused.
    """

    name: str
    indicator: IndicatorName
    bars: Count = 1
    lookback: Count | None = None


@parameters
class FeatureParameters:
    """The feature columns, in the order in which the network sees them."""

    columns: list[FeatureColumn]

    @model_validator(mode="after")
    def _unique_names(self) -> FeatureParameters:
        names = [column.name for column in self.columns]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if not names:
            raise ValueError("`features.columns` must hold at least one column, was empty.")
        if repeated:
            raise ValueError(f"`features.columns` must have unique names; rename one of each: {repeated}.")
        return self


@parameters
class RegimeParameters:
    """Hidden Markov model of the market's volatility regimes.

    Attributes:
        states: Number of states K, ordered from calm to volatile; 1 switches regimes off.
        memory: Bars that the forward filter looks back; the posterior is a function of these bars alone.
        restarts: Random starts of the fit; the best likelihood wins.
        iterations: Most EM iterations of one start.
        least_occupancy: A state holding less than this share of the train rows is merged away, with a warning.
    """

    states: Annotated[int, Field(ge=1, le=8)] = 3
    memory: Count = 512
    restarts: Count = 3
    iterations: Count = 50
    least_occupancy: Fraction = 0.02


@parameters
class CrossValidationParameters:
    """How rows are split into folds.

    Attributes:
        scheme: ``walk_forward`` (train on the past alone) or ``combinatorial`` (purged combinatorial folds: a
            distribution of outcomes, since they also train on later data).
        folds: Walk-forward folds, each with its own test block.
        first_test: Share of the usable rows before the first walk-forward test block.
        validation: Share of the rows before a walk-forward test block that become validation rows.
        window: ``expanding`` trains on all rows before validation, ``rolling`` on as many as the first fold has.
        groups: Combinatorial folds cut the rows into this many groups.
        test_groups: Groups tested at once in a combinatorial fold.
    """

    scheme: Literal["walk_forward", "combinatorial"] = "walk_forward"
    folds: Count = 4
    first_test: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    validation: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.15
    window: Literal["expanding", "rolling"] = "expanding"
    groups: Annotated[int, Field(ge=3)] = 6
    test_groups: Count = 2

    @model_validator(mode="after")
    def _groups_left(self) -> CrossValidationParameters:
        if self.test_groups > self.groups - 2:
            raise ValueError(
                f"`cross_validation.test_groups` must be at most groups - 2 = {self.groups - 2}, so that one group is "
                f"left for training and one for validation; was {self.test_groups}."
            )
        return self


@parameters
class NetworkParameters:
    """Size of the policy network.

    Attributes:
        width: Width D of the market embedding.
        layers: Attention layers L.
        heads: Attention heads; must divide ``width`` into even parts (rotary positions turn pairs).
        window: Bars W that one attention layer sees, the current one included.
        convolution: Taps k of the causal convolution before the attention.
        hidden: Width of the account head.
        quantiles: Quantiles of the critic.
    """

    width: Annotated[int, Field(ge=4)] = 16
    layers: Count = 1
    heads: Count = 2
    window: Annotated[int, Field(ge=2)] = 16
    convolution: Count = 4
    hidden: Annotated[int, Field(ge=4)] = 32
    quantiles: Annotated[int, Field(ge=3)] = 51

    @model_validator(mode="after")
    def _heads_divide_width(self) -> NetworkParameters:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"`network.width` must be a multiple of 2 x `network.heads` = {2 * self.heads}, was {self.width}; "
                f"try {2 * self.heads * max(1, round(self.width / (2 * self.heads)))}."
            )
        return self


@parameters
class ResamplingParameters:
    """Synthetic train paths, drawn anew for every update so that one price history cannot be learnt by heart.

    Attributes:
        block_bars: Mean length of the blocks of consecutive train bars that a path is made of; 0 replays the history.
        random_signs: Mirror each block in log price with probability one half. Forgets drift and even signals.
    """

    block_bars: Annotated[int, Field(ge=0)] = 128
    random_signs: bool = True


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


@parameters
class RobustnessParameters:
    """How the out-of-sample test is shaken. An empty list, or 0 paths, switches a part off.

    Attributes:
        cost_multipliers: Factors on commission, spread and impact.
        latency_bars: Bars that orders are under way beyond the next open.
        start_offsets: Bars that an account stays out after the first test row.
        paths: Paths bootstrapped from the test rows.
        block_bars: Mean length of the blocks that a path is made of; null takes the square root of a fold's test rows.
        seed: Seed of the paths.
    """

    cost_multipliers: list[NonNegative] = Field(default_factory=lambda: [0.5, 1.0, 1.5, 2.0, 3.0])
    latency_bars: list[Annotated[int, Field(ge=0, le=32)]] = Field(default_factory=lambda: [0, 1, 2, 3])
    start_offsets: list[NonNegativeCount] = Field(default_factory=lambda: [0, 7, 29, 113])
    paths: NonNegativeCount = 20
    block_bars: Annotated[float, Field(ge=1.0)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0


@parameters
class BacktestParameters:
    """The out-of-sample test.

    Attributes:
        agent: Folder of an agent trained elsewhere; null tests the agents of this project's folds on their test rows.
        targets: CSV of target positions that are walked beside the baselines; null is none.
        momentum_bars: Look-back of the momentum baseline.
        volatility_target: Annual volatility that the momentum baseline aims at, per asset.
        rebalance_days: Days between two rebalances of the equal-weight baseline.
        robustness: How the test is shaken.
    """

    agent: str | None = None
    targets: str | None = None
    momentum_bars: Count = 480
    volatility_target: Positive = 0.15
    rebalance_days: Positive = 7.0
    robustness: RobustnessParameters = Field(default_factory=RobustnessParameters)


@parameters
class ReportingParameters:
    """The report.

    Attributes:
        bootstrap_samples: Resamples of the stationary block bootstrap.
        bootstrap_block: Mean block length in bars; null takes the square root of the number of bars.
        confidence: Coverage of the intervals.
        seed: Seed of the bootstrap.
    """

    bootstrap_samples: Count = 1_000
    bootstrap_block: Positive | None = None
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    seed: int = 0


@parameters
class SignalParameters:
    """What the agents say about the newest bar.

    Attributes:
        fold: Fold whose agents decide; null takes the latest.
        equity: Equity to size the shares for, quote currency.
        replay_bars: Bars that each agent first trades from flat, so that its target continues a position.
    """

    fold: Annotated[int, Field(ge=0)] | None = None
    equity: Positive = 1_000_000.0
    replay_bars: Count = 256
