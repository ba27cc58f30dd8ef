"""Typed parameters: one frozen class per section of ``conf/<env>/parameters_*.yml``.

Kedro builds these classes from the section that a node asks for and refuses unknown keys, wrong types and values out
of bounds before any node runs. Fractions are fractions of one (0.08 is 8 %), costs are basis points (1 bps = 0.0001 of
traded notional), lengths are bars unless the name says otherwise.
"""

from sentio_kedro.config.account_rules import (
    CarryParameters,
    CostParameters,
    MarginParameters,
    MaskParameters,
    OrderParameters,
)
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
from sentio_kedro.config.market import (
    CrossValidationParameters,
    DownloadParameters,
    FeatureColumn,
    FeatureParameters,
    IndicatorName,
    IngestionParameters,
    OwnColumn,
    RegimeParameters,
    UniverseParameters,
)
from sentio_kedro.config.network import NetworkParameters
from sentio_kedro.config.promotion import ComparisonParameters, PromotionParameters, RegistryParameters
from sentio_kedro.config.search import SearchParameters, SearchRange
from sentio_kedro.config.symbols import SymbolRules
from sentio_kedro.config.trading import TradingParameters
from sentio_kedro.config.training import (
    DivergenceParameters,
    StoppingParameters,
    TailParameters,
    TrainingParameters,
)

__all__ = [
    "AgentParameters",
    "BacktestParameters",
    "CarryParameters",
    "ComparisonParameters",
    "CostParameters",
    "CrossValidationParameters",
    "DivergenceParameters",
    "DownloadParameters",
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
    "OwnColumn",
    "PromotionParameters",
    "RegimeParameters",
    "RegistryParameters",
    "ReportingParameters",
    "RobustnessParameters",
    "SearchParameters",
    "SearchRange",
    "SignalParameters",
    "SkillParameters",
    "SleeveName",
    "StoppingParameters",
    "SymbolRules",
    "TailParameters",
    "TradingParameters",
    "TrainingParameters",
    "TrialParameters",
    "UniverseParameters",
]
