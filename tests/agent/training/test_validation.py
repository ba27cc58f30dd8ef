"""Validation: one account over all rows of a segment, simulated like any other account."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tests.evaluation.backtest.test_robustness import NOTHING, make_agent

from planted.paths import autoregressive_returns, planted_bars
from sentio_kedro.agent.data.windows import path_facts
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training.validation import (
    Score,
    account_returns,
    sharpe_lead,
    validate_parts,
)
from sentio_kedro.config import BacktestParameters, IngestionParameters, TradingParameters
from sentio_kedro.evaluation.backtest.backtest import backtest_agent
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.performance import sharpe_ratio
from sentio_kedro.trading.simulate import net_returns, simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

DOUBLE = torch.float64
TRADING = TradingParameters(max_drawdown=0.3)
NO_STRESS = BacktestParameters(baselines=[], robustness=NOTHING)
CONTEXT = 8
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


@torch.no_grad()
def walked(networks: list[PolicyNetwork], market: MarketTensors, start: int, stop: int) -> torch.Tensor:
    """Trade one account bar by bar, reading the history up to each bar and nothing later."""
    account, terms, returns = open_accounts(1, market.assets, TRADING), terms_of(TRADING, market.assets), []
    for row in range(start, stop):
        facts = market_facts(market, row, row + 1, TRADING)
        idle = make_policies(np.array([TARGETS]), market.assets, 3, targets=np.full((1, 1, market.assets), np.nan))
        seen = simulate(facts, account.copy(), idle, terms, trace=True)  # nothing is ordered
        legal, chances = torch.from_numpy(seen.legal[0, 0]), torch.zeros(market.assets, 3, dtype=DOUBLE)
        for network in networks:
            embedding = network.encoder(market.features[None, : row + 1], 1)[0, 0]
            projected = network.head.project(embedding, market.posterior[row])
            hidden = network.head.hidden(projected, torch.from_numpy(seen.features[0, 0]))
            logits = network.head.logits(hidden, market.posterior[row]).masked_fill(~legal, float("-inf"))
            chances += logits.softmax(-1) / len(networks)
        targets = terms.levels[chances.argmax(-1)] * terms.allocation
        wanted = make_policies(np.array([TARGETS]), market.assets, 3, targets=targets[None, None])
        returns.append(net_returns(simulate(facts, account, wanted, terms))[0])
    return torch.from_numpy(np.concatenate(returns))


@pytest.mark.parametrize("members", [1, 2])
def test_the_returns_of_a_segment_equal_those_of_a_simulation_bar_by_bar(
    lively: Build, market: Markets, members: int
) -> None:
    networks, whole = [lively(seed=7 + member) for member in range(members)], market()
    whole.tradable[18:20, 0] = False
    found = account_returns(networks, whole, [Segment(12, 30)], CONTEXT, TRADING)
    assert found.std() > 1e-3
    torch.testing.assert_close(found, walked(networks, whole, 12, 30), rtol=0, atol=1e-9)


def test_one_account_follows_each_segment_to_its_end(lively: Build, market: Markets) -> None:
    networks, whole = [lively(seed=7)], market()
    found = account_returns(networks, whole, [Segment(10, 22), Segment(25, 32)], CONTEXT, TRADING)
    expected = [walked(networks, whole, *rows) for rows in ((10, 22), (25, 32))]
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-9)
    pieces = [torch.cat([walked(networks, whole, *rows) for rows in ((10, cut), (cut, 22))]) for cut in range(11, 21)]
    assert any((found[:12] - part).abs().max() > 1e-6 for part in pieces)  # an account that begins anew pays again


def test_validation_is_the_backtest_of_its_rows_however_many_they_are() -> None:
    """Pieces of 128 bars that start flat are another policy than the one that trades."""
    rows = Segment(20, 239)
    paths = [planted_bars(autoregressive_returns(240, 0.2, 0.01, seed=seed), f"{seed}") for seed in (0, 1)]
    bars = align_bars(pd.concat(paths), IngestionParameters())
    agent = make_agent(0, 0, TRADING)
    agent = replace(agent, spec=replace(agent.spec, symbols=["0", "1"], required_bars=rows.start + 1))
    features = compute_features(bars, agent.spec.features)
    market = market_tensors(bars, features, agent.regime_model().filter(market_return(bars)), TRADING)
    context = receptive_field(agent.spec.network) - 1
    validated = account_returns(agent.networks(DOUBLE), market, [rows], context, TRADING)
    tested = backtest_agent(bars, features, agent, NO_STRESS, 17_520.0)["accounts"].query("account == 'seed_0'")
    assert len(validated) == len(tested) == 219
    np.testing.assert_allclose(validated[:-1], tested["return"][:-1], rtol=0, atol=1e-12)  # a test closes at its end
    assert validated.std() > 1e-3


def test_a_fixed_level_is_held_whatever_the_networks_say(lively: Build, market: Markets) -> None:
    networks, whole, rows = [lively(seed=7)], market(), [Segment(12, 30)]
    flat = account_returns(networks, whole, rows, CONTEXT, TRADING, fixed_level=0.0)
    assert not flat.any()
    units = torch.linspace(-1.0, 1.0, whole.bars * whole.assets, dtype=DOUBLE).view(whole.bars, whole.assets)
    of_rule = whole._replace(units=units)
    followed = account_returns(networks, of_rule, rows, CONTEXT, TRADING, fixed_level=1.0)
    facts = market_facts(of_rule, 12, 30, TRADING)
    policies = make_policies(np.array([TARGETS]), whole.assets, 3, targets=facts.facts.unit[:, None])
    accounts, terms = open_accounts(1, whole.assets, TRADING), terms_of(TRADING, whole.assets)
    expected = net_returns(simulate(facts, accounts, policies, terms))[:, 0]
    assert expected.std() > 1e-4
    np.testing.assert_allclose(followed, expected, rtol=0, atol=1e-12)


def test_nothing_after_the_judged_rows_matters(lively: Build, market: Markets) -> None:
    whole, later = market(), market()
    for part in later[:3]:
        part[31:] = 7.0  # the last decision is taken at row 29 and marked at row 30
    later.posterior[31:] = 0.5
    segments = [Segment(12, 30)]
    assert torch.equal(
        account_returns([lively(seed=7)], whole, segments, 8, TRADING),
        account_returns([lively(seed=7)], later, segments, 8, TRADING),
    )


def test_a_score_is_the_sharpe_ratio_of_each_parts_returns(lively: Build, market: Markets) -> None:
    networks, whole, parts = [lively(seed=7)], market(), [[Segment(12, 20)], [Segment(22, 30)]]
    found = Score.of(validate_parts(networks, whole, parts, CONTEXT, TRADING, path_facts(whole, TRADING)), 252.0)
    assert found.train_sharpe != found.validation_sharpe
    for score, part in zip((found.train_sharpe, found.validation_sharpe), parts, strict=True):
        returns = account_returns(networks, whole, part, CONTEXT, TRADING)
        assert score == pytest.approx(float(sharpe_ratio(returns, 252.0)), rel=1e-9)
        assert score == pytest.approx(252.0**0.5 * (returns.mean() / returns.std()).item(), rel=0.05)
    torch.testing.assert_close(found.returns, account_returns(networks, whole, parts[1], CONTEXT, TRADING))


def slow_lead(better: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of returns per deviation over its Newey-West standard error, in plain sums."""
    difference = better / better.std(ddof=1) - other / other.std(ddof=1)
    bars, rest = len(difference), difference - difference.mean()
    lags = int(4 * (bars / 100) ** (2 / 9))
    variance = sum(rest[t] ** 2 for t in range(bars)) / bars
    for lag in range(1, lags + 1):
        covariance = sum(rest[t] * rest[t - lag] for t in range(lag, bars)) / bars
        variance += 2 * (1 - lag / (lags + 1)) * covariance
    return float(difference.mean() / (variance / bars) ** 0.5)


def test_a_lead_is_the_difference_of_sharpe_ratios_in_standard_errors() -> None:
    rng = np.random.default_rng(0)
    common = rng.standard_normal(200)
    better, other = 0.01 * (common + 0.3), 0.03 * (common + 0.5 * rng.standard_normal(200))  # the other bets more
    found = sharpe_lead(torch.from_numpy(better), torch.from_numpy(other))
    assert found == pytest.approx(slow_lead(better, other), rel=1e-9)
    assert found > 2.0
    assert sharpe_lead(torch.from_numpy(other), torch.from_numpy(better)) == pytest.approx(-found, rel=1e-9)
    single = sharpe_lead(torch.from_numpy(better).float(), torch.from_numpy(other).float())
    assert single == pytest.approx(found, rel=1e-4)  # so do returns in float32


def test_small_leads_are_known_exactly() -> None:
    better, flat = torch.tensor([2.0, 0.0, 2.0, 2.0]), torch.zeros(4)
    # mean 3/2, variance 3/4, covariance -5/16 at the one lag, whose weight is a half: error (7/16 / 4)^(1/2)
    assert sharpe_lead(better, flat) == pytest.approx(12.0 / 7.0**0.5, rel=1e-9)
    assert sharpe_lead(flat, 0.001 * better) == pytest.approx(
        -12.0 / 7.0**0.5, rel=1e-6
    )  # in units of its own deviation
    assert sharpe_lead(better, better) == 0.0
    assert sharpe_lead(better, 4.0 * better) == 0.0  # the same bets, four times as large
    assert sharpe_lead(flat, flat) == 0.0
