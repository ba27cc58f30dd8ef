"""The drawdown limit on real bars: only a market that outruns the caps can break it."""

from pathlib import Path

import numpy as np
import pandas as pd

from sentio_kedro.config import IngestionParameters, TradingParameters
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

SHIPPED = Path(__file__).parents[2] / "data" / "01_raw" / "crypto_30min.parquet"
LIMIT, BARS, WARM_UP = 0.08, 1_000, 200
TRADING = TradingParameters(max_drawdown=LIMIT, costs={"commission_bps": 10, "half_spread_bps": 2})  # type: ignore[arg-type]


def shipped_market() -> MarketTensors:
    bars = align_bars(pd.read_parquet(SHIPPED), IngestionParameters(bar_label="start"))
    nothing = bars.close[..., None] * 0.0
    return market_tensors(bars, nothing, np.ones((len(bars.timestamps), 1)), TRADING)


def wishes(count: int, assets: int) -> np.ndarray:
    """Always long, always short, or to and fro: levels ``[S, N, A]`` of a long and a short account by window."""
    rng = np.random.default_rng(0)
    usual = np.tile([1.0, -1.0], count // 2)
    restless = rng.choice([-1.0, 0.0, 1.0], (BARS, count))
    levels = np.where(rng.random((BARS, count)) < 0.02, restless, usual)
    return np.broadcast_to(levels[..., None], (BARS, count, assets))


def test_every_breach_of_the_limit_is_a_move_beyond_headroom_over_exposure() -> None:
    market = shipped_market()
    starts = np.arange(WARM_UP, market.bars - BARS - 1, BARS // 2).repeat(2)
    count, terms = len(starts), terms_of(TRADING, market.assets)
    rows = starts[:, None] - WARM_UP + np.arange(BARS)
    facts = market_facts(market, WARM_UP, market.bars - 1, TRADING)
    targets = np.full((len(facts.facts), count, market.assets), np.nan)
    levels = wishes(count, market.assets) * terms.allocation
    for n in range(count):
        targets[rows[n], n] = levels[:, n]
    policies = make_policies(np.full(count, TARGETS), market.assets, 3, source=np.arange(count), targets=targets)
    accounts = open_accounts(count, market.assets, TRADING)
    ledger = simulate(facts, accounts, policies, terms, rows, np.arange(count), trace=True)

    fills, total = ledger.fills, ledger.total
    peak = np.maximum.accumulate(np.concatenate([total.equity_before[:1], total.equity]))[:-1]
    before, after = 1.0 - total.equity_before / peak, 1.0 - total.equity / peak
    breaches = (before < LIMIT) & (after >= LIMIT)
    assert breaches.sum() > 5  # the test has something to say
    here = facts.facts[rows.T]  # [S, N, A]
    held = np.concatenate([np.zeros_like(fills.shares[:1]), fills.shares[:-1]])
    gap = np.abs(held * here.close).sum(-1) / total.equity_before
    gross = np.maximum(gap, np.abs(fills.position).sum(-1))  # through the gap, and after the fill
    moves = np.abs(here.open / here.close - 1.0) + np.abs(here.next_close / here.open - 1.0)
    room = (LIMIT - before) / (1.0 - before)  # loss, fraction of equity, that reaches the limit
    assert not (breaches & (moves.max(-1) <= room / np.maximum(gross, 1e-12))).any()
    full = TRADING.gross_limit * np.clip(LIMIT - before, 0.0, 1.0) / (LIMIT * (1.0 - TRADING.drawdown_soft_limit))
    drift = 1.0 + TRADING.orders.rebalance_band + moves.max(-1)  # within the band a position stays
    assert (np.abs(fills.position).sum(-1) <= np.minimum(full, 1.0) * drift + 1e-9).all()
    assert (total.headroom[1:][after[:-1] >= LIMIT] <= 1e-9).all()
