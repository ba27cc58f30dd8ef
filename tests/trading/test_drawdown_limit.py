"""The drawdown limit on real bars: only a market that outruns the caps can break it."""

from pathlib import Path

import pandas as pd
import torch

from sentio_kedro.config import IngestionParameters, TradingParameters
from sentio_kedro.market.bars import align_bars
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.trading.accounts import AccountState, Decision, open_accounts
from sentio_kedro.trading.action_masks import HOLD, decode, level_tensor
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.simulate import PolicyTrace, simulate

SHIPPED = Path(__file__).parents[2] / "data" / "01_raw" / "crypto_30min.parquet"
LIMIT, BARS, WARM_UP = 0.08, 1_000, 200
TRADING = TradingParameters(max_drawdown=LIMIT, costs={"commission_bps": 10, "half_spread_bps": 2})  # type: ignore[arg-type]


class Greedy:
    """Goes as far as the mask lets it: always long, always short, or to and fro, by account."""

    def __init__(self, steps: int, windows: int) -> None:
        draws = torch.Generator().manual_seed(0)
        self.levels = level_tensor(TRADING, torch.zeros(1, dtype=torch.float64))
        wishes = torch.tensor([3, 1]).repeat(windows)  # a long and a short account in each window
        restless = torch.randint(1, 4, (steps, 2 * windows), generator=draws)
        changes = torch.rand((steps, 2 * windows), generator=draws) < 0.02
        self.inputs: PolicyTrace = (torch.where(changes, restless, wishes),)

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: torch.Tensor
    ) -> tuple[Decision, PolicyTrace]:
        wish = inputs[0][:, None].expand(account.shares.shape)
        allowed = legal.gather(-1, wish[..., None])[..., 0]
        held = (account.shares != 0.0) & legal[..., HOLD] & (torch.sign(account.shares) == torch.sign(wish - 2.0))
        action = torch.where(held, HOLD, torch.where(allowed, wish, 2))
        return decode(action, self.levels), (limits.position,)


def shipped_market() -> MarketTensors:
    bars = align_bars(pd.read_parquet(SHIPPED), IngestionParameters(bar_label="start"))
    nothing = bars.close[..., None] * 0.0
    return market_tensors(bars, nothing, torch.ones(len(bars.timestamps), 1).numpy(), TRADING)


def test_every_breach_of_the_limit_is_a_move_beyond_headroom_over_exposure() -> None:
    market = shipped_market()
    starts = torch.arange(WARM_UP, market.bars - BARS - 1, BARS // 2).repeat_interleave(2)
    rows = starts + torch.arange(BARS)[:, None]
    step_data = make_step_data(market, rows, TRADING)
    accounts = open_accounts(torch.full((len(starts),), 1e5, dtype=torch.float64), market.assets)
    with torch.inference_mode():
        _, (fill, (position,)) = simulate(step_data, Greedy(BARS, len(starts) // 2), accounts, TRADING, telemetry=True)

    peak = torch.cat([fill.equity_before[:1], fill.equity]).cummax(0).values[:-1]
    before, after = 1.0 - fill.equity_before / peak, 1.0 - fill.equity / peak
    breaches = (before < LIMIT) & (after >= LIMIT)
    assert breaches.sum() > 5  # the test has something to say
    assert fill.position is not None
    gross = torch.maximum(position.abs().sum(-1), fill.position.abs().sum(-1))  # through the gap, and after the fill
    moves = (step_data.open / step_data.close - 1.0).abs() + (step_data.next_close / step_data.open - 1.0).abs()
    room = (LIMIT - before) / (1.0 - before)  # loss, fraction of equity, that reaches the limit
    unexplained = breaches & (moves.amax(-1) <= room / gross)
    assert not unexplained.any()
    full = TRADING.gross_limit * (LIMIT - before).clamp(0.0, 1.0) / (LIMIT * (1.0 - TRADING.drawdown_soft_limit))
    drift = 1.0 + 0.25 + moves.amax(-1)  # a held position may drift until it must shrink
    assert (fill.position.abs().sum(-1) <= full.clamp(max=1.0) * drift + 1e-9)[fill.equity_before > 0.0].all()
    assert (fill.headroom[1:][after[:-1] >= LIMIT] == 0.0).all()
