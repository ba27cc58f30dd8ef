"""Which tracked runs are compared, and how sure a difference is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sentio_kedro.config.fields import Count, Positive, parameters

Names = Annotated[list[str], Field(min_length=1)]


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
        bootstrap_block: Mean block length in bars; null takes the square root of the number of bars.
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
    bootstrap_samples: Count = 1_000
    bootstrap_block: Positive | None = None
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    seed: int = 0

    @property
    def wanted(self) -> list[str] | None:
        """The runs that were asked for, one by one; None for the newest."""
        names = self.runs.split() if isinstance(self.runs, str) else self.runs
        return names or None
