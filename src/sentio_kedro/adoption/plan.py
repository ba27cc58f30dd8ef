"""Parameters that the bars allow: horizons in time, folds, episodes and networks, shrunk until they fit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from sentio_kedro.adoption.horizons import feature_columns, longest, resolved
from sentio_kedro.config.presets import merged
from sentio_kedro.durations import DAY
from sentio_kedro.manifests import SECTIONS
from sentio_kedro.market.folds import make_folds, min_bars
from sentio_kedro.market.ingestion.sessions import Clock
from sentio_kedro.market.purged_folds import Spans

ENOUGH_FOR_FORECASTS = 10_000  # bars; their look-back alone is 1,025
ENOUGH_TO_LEARN = 1_000  # bars; below, a run shows the pipeline and nothing else
FEW = 400  # bars, from which down networks of seconds learn as much as large ones
_SHARES = (8, 10, 12, 16, 24, 32)  # of the bars, that a look-back may take: an eighth, and less where that is too much

Sections = dict[str, Any]


@dataclass(frozen=True)
class Market:
    """What is known of the bars.

    Attributes:
        bars: Bars of the grid.
        of_session: Most bars of one session.
        symbols: Number of symbols.
        volume: Whether there is a volume that fills can be measured by.
        names: ``bar_minutes``, ``session_minutes``, ``sessions_per_year``.
    """

    bars: int
    of_session: int
    symbols: int
    volume: bool
    names: Mapping[str, float]

    @property
    def daily(self) -> bool:
        """Whether bars are of a day or longer."""
        return self.names["bar_minutes"] >= DAY


@dataclass(frozen=True)
class SizedPlan:
    """Parameters whose look-backs and folds fit the bars.

    Attributes:
        sections: Sections of parameters, durations as ``${bars:...}``.
        forecasts: Whether there are enough bars for forecasts with evidence.
        needed: Fewest bars of a whole run with these parameters; more than there are where no run is possible.
    """

    sections: Sections
    forecasts: bool
    needed: int


def plan(market: Market, base: Mapping[str, Any], small: bool) -> SizedPlan:
    """Choose the parameters that depend on length and number of the bars.

    Args:
        market: The bars.
        base: Sections of ``conf/base``.
        small: Networks and tests of seconds, whatever the bars allow.
    """
    forecasts = market.bars >= ENOUGH_FOR_FORECASTS and not small
    chosen = None
    for share in _SHARES:
        sections = _sections(market, market.bars // share, forecasts, small or market.bars < FEW)
        chosen = SizedPlan(sections, forecasts, _needed(market, base, sections))
        if chosen.needed <= market.bars:
            return chosen
    sections = _tiny(market)
    return SizedPlan(sections, False, _needed(market, base, sections))


def _sections(market: Market, most: int, forecasts: bool, small: bool) -> Sections:
    most = max(2, most)
    folds = 4 if market.bars >= 2_000 else 2 if market.bars >= FEW else 1  # noqa: PLR2004 - each test block some hundred bars
    episode = max(2, min(128 if forecasts else 64 if not market.daily else 32, market.bars // 40))
    memory = _memory_sessions(market, most)
    half_year = longest(market.names, "6mo" if market.daily else "2w", min(most, 1_024))
    kelly = longest(market.names, "6mo" if market.daily else "2w", min(most, 1_024), fewest=2)
    sections: Sections = {
        "features": {"columns": feature_columns(market.names, most, market.symbols, market.volume)},
        "regimes": {"memory": half_year} | ({} if market.bars >= ENOUGH_TO_LEARN else {"states": 2}),
        "backtest": {
            "momentum_bars": longest(market.names, "6mo" if market.daily else "2w", most),
            "portfolio_bars": longest(market.names, "1y" if market.daily else "1mo", max(most, market.bars // 4), 2),
        },
        "cross_validation": {"folds": folds} | ({} if folds > 1 else {"validation": 0.2}),
        "trading": {"memory_sessions": memory, "masks": {"kelly_bars": kelly}},
        "network": {"variant": "forecasts" if forecasts else "enhanced"},
        "training": {"variant": "forecasts" if forecasts else "enhanced"},
    }
    if forecasts or market.symbols == 1:  # of one symbol nothing is relative
        sections["forecasting"] = {"sleeves": ["relative"] if market.symbols > 1 else ["directional"]}
    if forecasts:
        return sections
    sections["trading"]["unit"] = "allocation"
    block = longest(market.names, "2mo" if market.daily else "2d", max(2, market.bars // 20))
    sections["training"] |= {"episode_bars": episode, "block_bars": block}
    if small:
        return _smaller(sections, market)
    if market.bars < ENOUGH_FOR_FORECASTS:
        sections["training"]["total_steps"] = 100_000
    return sections


def _smaller(sections: Sections, market: Market) -> Sections:
    """Put the networks and tests of seconds into ``sections``, those of ``conf/smoke``."""
    window = max(2, min(8, market.bars // 30))
    sections["network"] |= {
        "width": 8,
        "window": window,
        "convolution": min(2, window - 1),
        "hidden": 8,
        "quantiles": 11,
    }
    sections["training"] |= {
        **{"members": 1, "total_steps": 1_024, "windows": 4, "minibatches": 2, "learning_rate": 0.03},
        **{"episode_bars": min(16, sections["training"]["episode_bars"]), "mirror_blocks": False},
        **{"validations": 2, "checkpoint_updates": 2, "device": "cpu"},
    }
    sections["regimes"] |= {"states": 2 if market.bars >= FEW // 2 else 1, "restarts": 1, "iterations": 30}
    sections["cross_validation"]["folds"] = min(2, sections["cross_validation"]["folds"])
    sections["backtest"]["robustness"] = {
        **{"cost_multipliers": [0.5, 2], "latency_bars": [0, 1], "start_shares": [0, 0.5], "paths": 2}
    }
    sections["reporting"] = {"bootstrap_samples": 50, "trials": {"record": False}}
    return sections


def _tiny(market: Market) -> Sections:
    """The shortest look-backs that there are: a run on some twenty bars of a day, to see it run."""
    sections = _smaller(_sections(market, 2, False, True), market)
    sections["features"] = {"columns": feature_columns(market.names, 3, market.symbols, False)}
    sections["network"] |= {"window": 2, "convolution": 1}
    sections["regimes"] |= {"memory": 2, "states": 1}
    sections["training"] |= {"episode_bars": 2, "block_bars": 2}
    sections["trading"] |= {"memory_sessions": 2, "masks": {"kelly_bars": 2}}
    sections["cross_validation"] = {"folds": 1, "first_test": 0.6, "validation": 0.3}
    sections["backtest"] |= {"momentum_bars": 2, "portfolio_bars": 3}
    return sections


def _memory_sessions(market: Market, most: int) -> int:
    """Return the sessions, 2 to 20, whose bars and those of one more are at most ``most``."""
    return max(2, min(20, (most - 1) // max(1, market.of_session) - 1))


def _needed(market: Market, base: Mapping[str, Any], sections: Sections) -> int:
    """Return the fewest bars of a whole run, by the arithmetic of the folds."""
    typed = typed_sections(base, resolved(sections, market.names))
    spans = _spans(market, typed)
    parameters = typed["cross_validation"]
    try:
        make_folds(market.bars, spans, parameters)
        return min(market.bars, min_bars(spans, parameters) or market.bars)
    except ValueError:
        return min_bars(spans, parameters) or 10**12


def _spans(market: Market, typed: Mapping[str, Any]) -> Spans:
    """Return the spans of a decision as ``agent.spans`` adds them up, for sessions of ``of_session`` bars."""
    from sentio_kedro.agent.spans import measure_spans  # noqa: PLC0415 - slow, and looking at files needs none
    from sentio_kedro.market.indicators import longest_lookback  # noqa: PLC0415 - TA-Lib

    lookback = longest_lookback(typed["features"].columns)
    return measure_spans(
        lookback, typed["network"], typed["regimes"], typed["training"], typed["trading"], _clock(market)
    )


def _clock(market: Market) -> Clock:
    rows = np.zeros(market.of_session)
    return Clock(rows, rows.astype(np.int64), rows, rows, float(market.of_session))


def typed_sections(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections that shape artifacts as typed parameters: ``own`` over ``base``, key by key."""
    return {
        name: TypeAdapter(kind).validate_python(merged(copy.deepcopy(base.get(name, {})), own.get(name, {})))
        for name, kind in SECTIONS.items()
        if name in base or name in own
    }
