"""The planted markets by name, each with its sizes, its costs and the features that show its signal."""

from __future__ import annotations

from dataclasses import dataclass

from planted.belief import HiddenRegimesLaw
from planted.conditional import ClusteredNoiseLaw, HoursLaw, InteractionLaw
from planted.groups import IndependentLaw, LeadLagLaw
from planted.laws import AutoregressiveLaw, DriftLaw, SignalLaw, SizeLaw
from planted.paths import Law
from sentio_kedro.config import FeatureColumn

SLOW_VOLUME = FeatureColumn(name="volume_surprise_480", indicator="volume_surprise", bars=480)
MIXED = tuple(sign * size / 100.0 for size in range(8, 18) for sign in (1, -1))  # 20 of 0.08 .. 0.17, either sign


@dataclass(frozen=True)
class PlantedMarket:
    """A law, and how it is traded and tested.

    Attributes:
        law: The law of its returns.
        cost_bps: Commission and half spread together, bps of traded notional.
        train_bars: Bars before the test, warm-up and validation included.
        test_bars: Decisions that are scored.
        columns: Feature columns that this market needs in addition to the project's.
    """

    law: Law
    cost_bps: float = 2.0
    train_bars: int = 8_192
    test_bars: int = 4_096
    columns: tuple[FeatureColumn, ...] = ()


MARKETS: dict[str, PlantedMarket] = {
    "ar1": PlantedMarket(AutoregressiveLaw(0.1, 0.004)),
    "reversal": PlantedMarket(AutoregressiveLaw(-0.15, 0.006), cost_bps=5.0),
    "lag3": PlantedMarket(AutoregressiveLaw(0.1, 0.004, lag=3)),
    "signal": PlantedMarket(SignalLaw(0.065, 0.004, 0.95), columns=(SLOW_VOLUME,)),
    "size": PlantedMarket(SizeLaw(0.18, 0.004)),
    "drift": PlantedMarket(DriftLaw(0.00018, 0.004)),
    "lead_lag": PlantedMarket(LeadLagLaw(0.1, 0.004)),
    "regimes": PlantedMarket(HiddenRegimesLaw((0.15, -0.15), (0.003, 0.006), 500.0)),
    "assets20": PlantedMarket(IndependentLaw(MIXED, 0.004)),
    "noise": PlantedMarket(AutoregressiveLaw(0.0, 0.004)),
}

CONDITIONAL: dict[str, PlantedMarket] = {
    "interaction": PlantedMarket(InteractionLaw(0.15, 0.004, 50.0)),
    "hours": PlantedMarket(HoursLaw(0.0014, -0.0002, 0.004)),
    "small_edge": PlantedMarket(
        SignalLaw(0.015, 0.007, 0.995), cost_bps=12.0, train_bars=65_536, test_bars=16_384, columns=(SLOW_VOLUME,)
    ),
    "garch_noise": PlantedMarket(ClusteredNoiseLaw(0.004)),
    "assets3_noise": PlantedMarket(IndependentLaw((0.0,) * 3, 0.004)),
    "assets3_garch_noise": PlantedMarket(ClusteredNoiseLaw(0.004, assets=3)),
}
"""Markets for forecasts and rule alone: no network here has an input that shows their signal."""
