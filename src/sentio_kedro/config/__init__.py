"""Typed parameters: one frozen class per section of ``conf/<env>/parameters_*.yml``.

Kedro builds these classes from the section that a node asks for and refuses unknown keys, wrong types and values out
of bounds before any node runs. Fractions are fractions of one (0.08 is 8 %), costs are basis points (1 bps = 0.0001 of
traded notional), lengths are bars unless the name says otherwise.
"""

from sentio_kedro.config.agent import AgentParameters
from sentio_kedro.config.evaluation import (
    BacktestParameters,
    ExternalTestParameters,
    ReportingParameters,
    RobustnessParameters,
    SignalParameters,
    SkillParameters,
    TrialParameters,
)
from sentio_kedro.config.forecasting import ForecastingParameters, SleeveName
from sentio_kedro.config.generalisation import AbstentionParameters, ResamplingParameters
from sentio_kedro.config.market import (
    CrossValidationParameters,
    FeatureColumn,
    FeatureParameters,
    IndicatorName,
    IngestionParameters,
    RegimeParameters,
)
from sentio_kedro.config.network import NetworkParameters
from sentio_kedro.config.objective import (
    DivergenceParameters,
    StoppingParameters,
    TailParameters,
)
from sentio_kedro.config.promotion import ComparisonParameters, PromotionParameters, RegistryParameters
from sentio_kedro.config.search import SearchParameters, SearchRange
from sentio_kedro.config.trading import (
    CarryParameters,
    CostParameters,
    MarginParameters,
    MaskParameters,
    OrderParameters,
    TradingParameters,
)
from sentio_kedro.config.training import TrainingParameters

__all__ = [
    "AbstentionParameters",
    "AgentParameters",
    "BacktestParameters",
    "CarryParameters",
    "ComparisonParameters",
    "CostParameters",
    "CrossValidationParameters",
    "DivergenceParameters",
    "ExternalTestParameters",
    "FeatureColumn",
    "FeatureParameters",
    "ForecastingParameters",
    "IndicatorName",
    "IngestionParameters",
    "MarginParameters",
    "MaskParameters",
    "NetworkParameters",
    "OrderParameters",
    "PromotionParameters",
    "RegimeParameters",
    "RegistryParameters",
    "ReportingParameters",
    "ResamplingParameters",
    "RobustnessParameters",
    "SearchParameters",
    "SearchRange",
    "SignalParameters",
    "SkillParameters",
    "SleeveName",
    "StoppingParameters",
    "TailParameters",
    "TradingParameters",
    "TrainingParameters",
    "TrialParameters",
]
