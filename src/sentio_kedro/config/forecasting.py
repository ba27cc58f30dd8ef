"""Parameters of forecasts and of the rule that trades them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sentio_kedro.config.fields import Count, Positive, parameters

SleeveName = Literal["relative", "directional", "premium"]


@parameters
class ForecastingParameters:
    """Forecasts of returns by experts with evidence, and the rule that trades them.

    Attributes:
        sleeves: What is forecast: ``relative`` (returns less the mean over the assets; needs two), ``directional``
            (returns less their mean over the train rows) or ``premium`` (that mean). Each is traded only where
            its gate opens on out-of-fold train rows.
        gate_level: Level of the one-sided test, on out-of-fold train rows, that opens a sleeve: whether its forecasts
            are worth more than the costs of trading them. All sleeves of a fold share it (Bonferroni's correction).
        price_of_risk: Annual Sharpe ratio of a forecast at which the largest position is held; larger values hold less.
            A drawdown limit raises it to (annual deviation of the largest position) / ``trading.max_drawdown``.
            At 0 a position without a forecast would be kept for ever.
        workers: Folds fitted at the same time.
    """

    sleeves: Annotated[tuple[SleeveName, ...], Field(min_length=1)] = ("relative",)
    gate_level: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    price_of_risk: Positive = 1.0
    workers: Count = 2
