"""Parameters of the backtest, the report and the signals."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sentio_kedro.config.fields import (
    LARGEST,
    Count,
    Fraction,
    NonNegative,
    NonNegativeCount,
    Positive,
    PositiveFraction,
    Resamples,
    Seed,
    TwoOrMore,
    parameters,
)

BaselineName = Literal["ridge", "boosted_trees", "minimum_variance", "risk_parity", "regime_rule"]
"""Baselines that can be omitted; the others are always simulated."""
DEFAULT_BASELINES: tuple[BaselineName, ...] = ("ridge", "boosted_trees", "minimum_variance", "regime_rule")


@parameters
class RobustnessParameters:
    """Stress tests of the agent on the test rows. Null switches a part off.

    Attributes:
        cost_multipliers: Factors on commission, spread and impact; the break-even costs are interpolated between them.
        latency_bars: Bars that orders are under way beyond the next open.
        start_shares: Shares of each fold's test rows after which accounts begin, to compare what they hold.
        without_seeds: Let the ensembles trade that lack one seed each, where there are several.
        paths: Paths bootstrapped from the test rows.
        block_bars: Mean length of the blocks that a path is made of; null takes the square root of a fold's test rows.
        seed: Seed of the paths.
    """

    cost_multipliers: list[NonNegative] | None = Field(default_factory=lambda: [0.5, 1.0, 1.5, 2.0, 3.0])
    latency_bars: list[Annotated[int, Field(ge=0, le=32)]] | None = Field(default_factory=lambda: [0, 1, 2, 3])
    start_shares: Annotated[list[Annotated[float, Field(ge=0.0, lt=1.0)]], Field(min_length=2)] | None = Field(
        default_factory=lambda: [0.0, 0.125, 0.25, 0.5]
    )
    without_seeds: bool = True
    paths: Annotated[int, Field(ge=0, le=10_000)] | None = 20
    block_bars: Annotated[float, Field(ge=1.0, le=LARGEST)] | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _no_part_is_empty(self) -> Self:
        parts = {name: getattr(self, name) for name in ("cost_multipliers", "latency_bars", "paths")}
        problems = [
            f"`backtest.robustness.{name}` must {'be at least 1' if value == 0 else 'hold at least one value'}, was "
            f"{value}; set it to null to switch it off."
            for name, value in parts.items()
            if value is not None and not value
        ]
        if problems:
            raise ValueError(" ".join(problems))
        return self


@parameters
class BacktestParameters:
    """The out-of-sample test.

    Attributes:
        baselines: Baselines in addition to ``buy_and_hold``, ``equal_weight``, ``momentum`` and ``random``: ``ridge``
            and ``boosted_trees`` (fitted on each fold's train rows), ``minimum_variance`` and ``risk_parity`` (weights
            from trailing returns), ``regime_rule`` (flat in the most volatile regime).
        targets: CSV of target positions that are simulated as a further baseline; null is off.
        momentum_bars: Lookback of the momentum baseline, bars.
        volatility_target: Target volatility of the momentum baseline per asset, annual fraction.
        rebalance_days: Days between two rebalances of the baselines with weights and of the regime rule.
        portfolio_bars: Trailing bars of the covariance of minimum variance and risk parity.
        robustness: Stress tests.
    """

    baselines: list[BaselineName] = Field(default_factory=lambda: list(DEFAULT_BASELINES))
    targets: str | None = None
    momentum_bars: Count = 480
    volatility_target: Positive = 0.15
    rebalance_days: Positive = 7.0
    portfolio_bars: TwoOrMore = 1_440
    robustness: RobustnessParameters = Field(default_factory=RobustnessParameters)


@parameters
class ExternalTestParameters:
    """The test of an agent trained elsewhere; its baselines and robustness are those of ``backtest``.

    Attributes:
        agent: Folder of the agent; null is none.
    """

    agent: str | None = None


@parameters
class TrialParameters:
    """Ledger of trials, and the probability of backtest overfitting.

    Attributes:
        record: Append runs and searches to the ledger of trials; false for smoke runs.
        cscv_blocks: Number of blocks of rows for the probability of backtest overfitting, even; 16 give 12,870 splits.
        min_trials: Minimum trials on the same rows for the probability of backtest overfitting.
    """

    record: bool = True
    cscv_blocks: Annotated[int, Field(ge=2, le=20, multiple_of=2)] = 16
    min_trials: TwoOrMore = 5


@parameters
class SkillParameters:
    """Conditions of the verdict ``skill``.

    Attributes:
        min_deflated_sharpe: Minimum deflated Sharpe ratio, a confidence.
        max_overfitting: Upper bound of the probability of backtest overfitting, if it is computed.
        max_spa_p: Upper bound of the p-value against the best baseline (superior predictive ability).
    """

    min_deflated_sharpe: Fraction = 0.95
    max_overfitting: PositiveFraction = 0.2
    max_spa_p: PositiveFraction = 0.05


@parameters
class ReportingParameters:
    """The report.

    Attributes:
        bootstrap_samples: Resamples of the stationary block bootstrap; those of the test against the best baseline are
            at most 1,000.
        bootstrap_block: Mean block length in bars; null takes the automatic one (Politis and White 2004).
        confidence: Coverage of the intervals.
        seed: Seed of the bootstrap.
        trials: Ledger of trials.
        skill: Conditions of the verdict ``skill``.
    """

    bootstrap_samples: Resamples = 10_000
    bootstrap_block: Positive | None = None
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    seed: Seed = 0
    trials: TrialParameters = Field(default_factory=TrialParameters)
    skill: SkillParameters = Field(default_factory=SkillParameters)


@parameters
class SignalParameters:
    """Signals of the agents at the newest bar.

    Attributes:
        fold: Fold whose agents decide; null takes the latest.
        equity: Equity that the shares are sized for, quote currency.
        refuse_disagreement: Fail where the target of an account that began halfway differs, instead of marking it.
        max_age: Minutes since the newest bar ended, beyond which it is refused; null is any number.
        longest_gap: Minutes from one bar to the next, beyond which bars count as missing; null is the longest of the
            bars up to the account's.
    """

    fold: NonNegativeCount | None = None
    equity: Positive = 1_000_000.0
    refuse_disagreement: bool = False
    max_age: Positive | None = None
    longest_gap: Positive | None = None
