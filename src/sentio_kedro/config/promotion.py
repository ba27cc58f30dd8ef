"""The registered model, promotion gates, and the comparison of runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sentio_kedro.config.fields import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    Resamples,
    Seed,
    TwoOrMore,
    parameters,
)

Names = Annotated[list[str], Field(min_length=1)]


@parameters
class RegistryParameters:
    """The registered model.

    Attributes:
        model: Name of the registered model in MLflow; each training adds a version. Null registers nothing.
    """

    model: Annotated[str, Field(min_length=1)] | None = None


@parameters
class PromotionParameters:
    """Gates between a challenger and the champion. Null switches a gate off; an undefined metric passes no gate.

    Attributes:
        challenger: Version to promote: ``own`` (the agents among this environment's artifacts),
            ``newest`` (the version that was trained last, alias ``challenger``) or a version's number.
        min_deflated_sharpe: Smallest deflated Sharpe ratio, a confidence.
        max_overfitting: Probability of backtest overfitting that must not be reached.
        max_trials: Largest number of trials on the test rows, the challenger's own included; beyond it the challenger
            must have earned in the lockbox, which no other agents opened before.
        max_drawdown: Largest maximum drawdown out of sample, fraction of the peak.
        max_tail_loss: Largest mean loss of the worst 5 % of days (conditional value at risk), fraction of equity.
        max_turnover: Largest turnover a year, traded notional as a multiple of equity.
        max_latency_ms: Longest time of a decision of the registered model in process, 99 % quantile, milliseconds.
        max_drift: Largest population stability index between train and newest bars, mean over features.
        min_sharpe_gain: Smallest gain in the annualised Sharpe ratio over the champion on the rows that tested both;
            not required of the first champion.
        min_common_bars: Smallest number of bars that tested both, for a comparison.
        latency_calls: Number of timed decisions.
        drift_bars: Newest bars that are compared with the train bars; fewer where fewer are later than these.
        bootstrap_samples: Resamples of the stationary block bootstrap of the gain's interval.
        bootstrap_block: Mean block length in bars; null takes the automatic one (Politis and White 2004).
        confidence: Coverage of the gain's interval.
        seed: Seed of the bootstrap.
    """

    challenger: Literal["own", "newest"] | Count = "own"
    min_deflated_sharpe: Fraction | None = 0.95
    max_overfitting: Fraction | None = 0.2
    max_trials: Count | None = 20
    max_drawdown: Fraction | None = 0.1
    max_tail_loss: Fraction | None = 0.03
    max_turnover: NonNegative | None = 250.0
    max_latency_ms: Positive | None = 1_000.0
    max_drift: NonNegative | None = 0.25
    min_sharpe_gain: float | None = 0.0
    min_common_bars: TwoOrMore = 500
    latency_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    drift_bars: TwoOrMore = 1_000
    bootstrap_samples: Resamples = 1_000
    bootstrap_block: Positive | None = None
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    seed: Seed = 0


@parameters
class ComparisonParameters:
    """The comparison of tracked runs.

    Attributes:
        experiment: MLflow experiment whose runs are compared.
        runs: Runs by id (its first characters will do), name or variant, as a list or separated by blanks; a variant
            means its newest run. The first is the reference. Null takes the newest finished runs, one per set of
            agents.
        newest: Runs that are compared at most where ``runs`` is null.
        metrics: Metrics of the table, as MLflow names them behind ``out_of_sample.``; what a run lacks stays empty.
        bootstrap_samples: Resamples of the stationary block bootstrap of a difference.
        bootstrap_block: Mean block length in bars; null takes the automatic one (Politis and White 2004).
        confidence: Coverage of the intervals of differences.
        seed: Seed of the bootstrap.
    """

    experiment: str
    runs: Names | str | None = None
    newest: Annotated[int, Field(ge=2, le=100)] = 8
    metrics: Names = Field(
        default_factory=lambda: [
            *("agent.sharpe", "agent.sharpe_low", "agent.sharpe_high", "agent.annual_return", "agent.max_drawdown"),
            *("agent.turnover_per_bar", "agent.win_rate", "agent.trades", "agent.deflated_sharpe", "agent.pbo"),
        ]
    )
    bootstrap_samples: Resamples = 1_000
    bootstrap_block: Positive | None = None
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    seed: Seed = 0

    @property
    def wanted(self) -> list[str] | None:
        """The names in ``runs``, one by one; None for the newest."""
        names = self.runs.split() if isinstance(self.runs, str) else self.runs
        return names or None
