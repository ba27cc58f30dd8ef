"""Agents on the planted market ``limits``: trained on the rule's out-of-fold forecasts, walked through the step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from planted.limited_market import LimitedPath, Walk, scored
from planted.study import Forgetful
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.ensemble import AgentNetworks, with_rule, without_abstention
from sentio_kedro.agent.forecasting.fold import FoldForecasts
from sentio_kedro.agent.forecasting.frames import forecast_frame
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.rule_inputs import rule_inputs
from sentio_kedro.agent.training.population import train_agent
from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.purged_folds import Spans
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.tensors import market_tensors
from sentio_kedro.pipelines.training.nodes import of_rule
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import HEADS, make_policies, with_heads

LOOKBACK = 1_100  # bars that the inputs of a decision need, rounded up


def agent_walk(path: LimitedPath, model: RegimeModel, market: ForecastMarket, found: FoldForecasts) -> Walk:
    """Train the default agent on a path and walk it over the test rows; its networks decide whatever their evidence."""
    fold, (test,) = path.market.fold, path.market.fold.test
    trading = replace(path.market.trading, unit="rule", levels=TradingParameters(unit="rule").levels)
    parameters = AgentParameters(
        NetworkParameters(variant="forecasts"), TrainingParameters(variant="forecasts", seeds=1), trading
    )
    visible = path.bars.rows(slice(0, fold.validation[0].stop + 1))
    nothing = np.zeros((len(visible.timestamps), 1, 1))
    training_set = TrainingSet(fold, visible, nothing, (), model, market.periods_per_year, trading, "halt")
    training_set = of_rule(training_set, found.rule, forecast_frame(path.bars, market, found))
    spans = Spans(LOOKBACK, 1, parameters.training.episode_bars)
    sink = Forgetful()
    agent, _, _ = train_agent(training_set, 0, spans, parameters, sink, sink, {})
    posterior = model.filter(market_return(path.bars))
    followed = found.rule.follow(path.bars, posterior, trading)
    clock = market_clock(path.bars.timestamps, trading.calendar)
    plain = market_tensors(path.bars, np.zeros((len(posterior), 1, 1)), posterior, trading)
    seen = with_rule(plain, rule_inputs(followed, found.rule.segments, clock), followed.units)
    networks = AgentNetworks([without_abstention(agent)], torch.float64)
    heads = networks.heads(seen.features, [torch.from_numpy(posterior)], *test)
    policies = with_heads(make_policies(np.array([HEADS]), 1, len(trading.levels)), heads)
    ledger = simulate(market_facts(seen, *test, trading), open_accounts(1, 1, trading), policies, terms_of(trading, 1))
    return scored(ledger, path.mean_returns[slice(*test), None])
