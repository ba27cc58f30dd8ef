"""Validation: chunks that never overlap, simulated like any other account."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training.validation import (
    Score,
    chunk_length,
    chunk_returns,
    chunk_starts,
    sharpe_lead,
    split_validation,
    validate_parts,
)
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.performance import sharpe_ratio
from sentio_kedro.trading.policies import TARGETS, make_policies
from sentio_kedro.trading.simulate import net_returns, simulate

DOUBLE = torch.float64
TRADING = TradingParameters(max_drawdown=0.3)
CONTEXT = 8
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=5), st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_chunks_stay_in_their_segments_and_never_overlap(sizes: list[tuple[int, int]], length: int) -> None:
    segments, row = [], 0
    for size, gap in sizes:
        segments.append(Segment(row + gap, row + gap + size))
        row += gap + size
    starts = chunk_starts(segments, length)
    rows = [start + offset for start in starts for offset in range(length)]
    assert len(set(rows)) == len(rows)
    for start in starts:
        assert any(part.start <= start and start + length <= part.stop for part in segments)
    assert len(starts) == sum((part.stop - part.start) // length for part in segments)


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
def test_the_returns_of_one_chunk_equal_those_of_a_simulation_bar_by_bar(
    lively: Build, market: Markets, members: int
) -> None:
    networks, whole = [lively(seed=7 + member) for member in range(members)], market()
    whole.tradable[18:20, 0] = False
    found = chunk_returns(networks, whole, [Segment(12, 30)], 18, CONTEXT, TRADING)
    assert found.std() > 1e-3
    torch.testing.assert_close(found, walked(networks, whole, 12, 30), rtol=0, atol=1e-9)


def test_each_chunk_starts_flat_and_chunks_follow_each_other(lively: Build, market: Markets) -> None:
    networks, whole = [lively(seed=7)], market()
    found = chunk_returns(networks, whole, [Segment(10, 22), Segment(25, 32)], 6, CONTEXT, TRADING)
    expected = [walked(networks, whole, start, start + 6) for start in (10, 16, 25)]
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("share", "gap", "choosing", "measuring"),
    [
        (None, 3, [(10, 20), (30, 50)], [(10, 20), (30, 50)]),  # all do both
        (0.5, 0, [(10, 20), (30, 35)], [(35, 50)]),
        (0.5, 2, [(10, 20), (30, 35)], [(37, 50)]),
        (0.8, 1, [(10, 16)], [(17, 20), (30, 50)]),
        (2 / 3, 0, [(10, 20)], [(30, 50)]),
    ],
)
def test_the_latest_validation_rows_measure_and_the_others_choose(
    share: float | None, gap: int, choosing: list[tuple[int, int]], measuring: list[tuple[int, int]]
) -> None:
    found = split_validation([Segment(10, 20), Segment(30, 50)], share, gap)
    assert [[(part.start, part.stop) for part in rows] for rows in found] == [choosing, measuring]


@pytest.mark.parametrize(("share", "gap", "who"), [(0.99, 0, "choose weights"), (0.1, 3, "measure the validation t")])
def test_too_few_rows_on_either_side_are_refused(share: float, gap: int, who: str) -> None:
    with pytest.raises(ValueError, match=rf"`training.abstention.holdout_share` = {share:g} .* to {who}"):
        split_validation([Segment(10, 40)], share, gap)


def test_nothing_after_the_judged_rows_matters(lively: Build, market: Markets) -> None:
    whole, later = market(), market()
    for part in later[:3]:
        part[31:] = 7.0  # the last decision is taken at row 29 and marked at row 30
    later.posterior[31:] = 0.5
    segments = [Segment(12, 30)]
    assert torch.equal(
        chunk_returns([lively(seed=7)], whole, segments, 18, 8, TRADING),
        chunk_returns([lively(seed=7)], later, segments, 18, 8, TRADING),
    )


def test_a_score_is_the_sharpe_ratio_of_each_parts_returns(lively: Build, market: Markets) -> None:
    networks, whole, parts = [lively(seed=7)], market(), [[Segment(12, 20)], [Segment(22, 30)]]
    found = Score.of(validate_parts(networks, whole, parts, CONTEXT, TRADING), 252.0)
    assert found.train_sharpe != found.validation_sharpe
    for score, part in zip((found.train_sharpe, found.validation_sharpe), parts, strict=True):
        returns = chunk_returns(networks, whole, part, 8, CONTEXT, TRADING)
        assert score == pytest.approx(float(sharpe_ratio(returns, 252.0)), rel=1e-9)
        assert score == pytest.approx(252.0**0.5 * (returns.mean() / returns.std()).item(), rel=0.05)
    torch.testing.assert_close(found.returns, chunk_returns(networks, whole, parts[1], 8, CONTEXT, TRADING))


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


def test_chunks_fill_the_longest_segment() -> None:
    assert chunk_length([Segment(0, 100), Segment(200, 500)]) == 150  # two chunks of about 128 rows
    assert chunk_length([Segment(0, 40)]) == 40
